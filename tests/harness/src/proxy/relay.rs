//! One connection: what comes in goes out, unless a fault says otherwise.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use super::Address;
use super::head::Head;
use super::rule::{Fault, Gate};
use super::serve::{Mode, State};

const DRAIN_LIMIT: Duration = Duration::from_secs(10);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Both kinds of stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// What happens after some bytes of a body.
enum After {
    Cut,
    Hold(Gate),
}

/// Serves a connection until it ends, or until all connections are cut.
pub(super) async fn serve(client: Box<dyn Stream>, state: Arc<State>) {
    let mut mode = state.subscribe();
    let born = mode.borrow().generation;
    let relay =
        async { if state.is_http() { http(client, &state).await } else { tcp(client, &state).await } };
    tokio::select! {
        // An error is the end of a connection, which either side may wish for; the test sees its effect.
        _ended = relay => {}
        _cut = mode.wait_for(|mode| mode.generation != born) => {}
    }
}

async fn tcp(client: Box<dyn Stream>, state: &State) -> Result<()> {
    let server = connect(state.upstream()).await?;
    let (mut client_in, mut client_out) = tokio::io::split(client);
    let (mut server_in, mut server_out) = tokio::io::split(server);
    let (up, down) = (state.subscribe(), state.subscribe());
    tokio::try_join!(
        pass(&mut client_in, &mut server_out, Vec::new(), None, up),
        pass(&mut server_in, &mut client_out, Vec::new(), None, down),
    )?;
    Ok(())
}

async fn http(mut client: Box<dyn Stream>, state: &State) -> Result<()> {
    let Some(mut head) = Head::read(&mut client, Vec::new()).await? else {
        return Ok(());
    };
    let (mut request_end, mut answer_end, mut lose, mut gate_behind) = (None, None, false, None);
    match state.choose(&head.request()) {
        Some(Fault::Answer { status, body, headers }) => {
            return answer(client, status, &body, &headers).await;
        }
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::Hold { after: 0, gate }) => gate.pass().await,
        Some(Fault::Hold { after, gate }) => request_end = Some((after, After::Hold(gate))),
        Some(Fault::CutRequest { after }) => request_end = Some((after, After::Cut)),
        Some(Fault::CutAnswer { after }) => answer_end = Some((after, After::Cut)),
        Some(Fault::LoseAnswer) => lose = true,
        Some(Fault::HoldAnswer { gate }) => gate_behind = Some(gate),
        None => {}
    }
    let _open = state.open(head.request());
    let server = connect(state.upstream()).await?;
    let (mut client_in, mut client_out) = tokio::io::split(client);
    let (mut server_in, mut server_out) = tokio::io::split(server);
    let rest = std::mem::take(&mut head.rest);
    let (up, down) = (state.subscribe(), state.subscribe());
    let request = async {
        server_out.write_all(head.closing().as_bytes()).await.context("pass a request")?;
        pass(&mut client_in, &mut server_out, rest, request_end, up).await
    };
    let reply = async {
        let mut rest = Vec::new();
        loop {
            let Some(mut head) = Head::read(&mut server_in, rest).await? else {
                return Ok(());
            };
            rest = std::mem::take(&mut head.rest);
            if head.is_interim() {
                client_out.write_all(head.as_bytes()).await.context("pass an answer")?;
                continue;
            }
            if let Some(gate) = &gate_behind {
                gate.pass().await;
            }
            if !lose {
                client_out.write_all(head.closing().as_bytes()).await.context("pass an answer")?;
                pass(&mut server_in, &mut client_out, rest, answer_end, down).await?;
            }
            return Ok(());
        }
    };
    tokio::pin!(reply);
    tokio::select! {
        result = &mut reply => result,
        sent = request => {
            sent?;
            reply.await
        }
    }
}

/// Passes bytes on until the end, which is passed on too; `first` has been read already.
async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    first: Vec<u8>,
    end: Option<(u64, After)>,
    mut mode: watch::Receiver<Mode>,
) -> Result<()> {
    let mut end = end;
    let mut bytes = first;
    bytes.reserve(64 * 1024);
    loop {
        mode.wait_for(|mode| !mode.frozen).await.context("watch the proxy")?;
        let mut rest = bytes.as_slice();
        if let Some((left, after)) = end.take_if(|(left, _)| *left <= rest.len() as u64) {
            let (before, behind) = rest.split_at(left as usize);
            write(to, before).await?;
            match after {
                After::Cut => anyhow::bail!("cut as told"),
                After::Hold(gate) => gate.pass().await,
            }
            rest = behind;
        } else if let Some((left, _)) = &mut end {
            *left -= rest.len() as u64;
        }
        write(to, rest).await?;
        bytes.clear();
        if from.read_buf(&mut bytes).await.context("read")? == 0 {
            return to.shutdown().await.context("pass the end");
        }
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<()> {
    to.write_all(bytes).await.context("write")?;
    to.flush().await.context("write")
}

async fn answer(mut client: Box<dyn Stream>, status: u16, body: &str, headers: &[String]) -> Result<()> {
    let more: String = headers.iter().flat_map(|line| [line, "\r\n"]).collect();
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} Injected\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    client.write_all(text.as_bytes()).await.context("answer")?;
    client.shutdown().await.context("answer")?;
    // Closing with unread input would reset the connection, and the client might never read the answer.
    let mut sink = tokio::io::sink();
    let drain = tokio::io::copy(&mut client, &mut sink);
    let _enough = tokio::time::timeout(DRAIN_LIMIT, drain).await;
    Ok(())
}

async fn connect(upstream: &Address) -> Result<Box<dyn Stream>> {
    let connect = async {
        Ok::<Box<dyn Stream>, std::io::Error>(match upstream {
            Address::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    };
    tokio::time::timeout(CONNECT_LIMIT, connect)
        .await
        .context("connect to the server")?
        .context("connect to the server")
}
