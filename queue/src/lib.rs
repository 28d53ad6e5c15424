//! The queue port: wake a worker, at least once. RabbitMQ or in-process.
