//! One scenario, two tests: the embedded pair, and RabbitMQ with Redis.

/// Makes two tests of each scenario, one for each pair, so that they run side by side and their names say which.
///
/// A scenario is an `async fn(Pair) -> anyhow::Result<()>` of the module that calls this.
#[macro_export]
macro_rules! on_both_pairs {
    ($($scenario:ident),+ $(,)?) => {
        mod embedded {
            $(
                #[tokio::test]
                async fn $scenario() -> anyhow::Result<()> {
                    super::$scenario(mothball_harness::system::Pair::Embedded).await
                }
            )+
        }
        mod servers {
            $(
                #[tokio::test]
                async fn $scenario() -> anyhow::Result<()> {
                    super::$scenario(mothball_harness::system::Pair::Servers).await
                }
            )+
        }
    };
}
