//! HTTP/1.1 by hand: one write and mostly one read per request, no allocation. A generator that shares the machine with
//! what it measures must cost little.

use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::chunked::Chunked;
use super::connect::{Connector, Io};
use super::request::Template;
use super::watch::{Failure, Watch};

/// Room for one read.
const READ: usize = 16 * 1024;
/// Longest head of an answer.
const LONGEST_HEAD: usize = 256 * 1024;
const MOST_HEADERS: usize = 96;

/// Where an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    /// With the connection.
    Close,
}

#[derive(Debug)]
struct Head {
    framing: Framing,
    close: bool,
}

/// One connection, with one request at a time.
pub(super) struct Connection {
    io: Io,
    /// Read and not yet used.
    buffer: BytesMut,
    head: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(connector: &Connector) -> Result<Self, Failure> {
        Ok(Self { io: connector.connect().await?, buffer: BytesMut::with_capacity(READ), head: Vec::new() })
    }

    /// Whether the server has not closed it meanwhile.
    pub(super) async fn usable(&mut self) -> bool {
        self.buffer.is_empty()
            && std::future::poll_fn(|context| {
                // Whatever comes now, the end above all, belongs to no request.
                Poll::Ready(poll_read_buf(Pin::new(&mut self.io), context, &mut self.buffer).is_pending())
            })
            .await
    }

    /// Sends a request and reads its answer; whether the connection can be used again.
    pub(super) async fn exchange(
        &mut self,
        template: &Template,
        key: &[u8],
        watch: &mut Watch,
    ) -> Result<bool, Failure> {
        template.head(key, &mut self.head);
        let whole = self.send(&template.body).await?;
        let head = self.read_head(watch).await?;
        self.read_body(head.framing, watch).await?;
        Ok(whole && !head.close && head.framing != Framing::Close && self.buffer.is_empty())
    }

    /// Writes the request, until an answer comes before its end; whether all of it was written.
    async fn send(&mut self, body: &[u8]) -> Result<bool, Failure> {
        let mut rest = Buf::chain(self.head.as_slice(), body);
        let (io, buffer) = (&mut self.io, &mut self.buffer);
        std::future::poll_fn(|context| {
            while rest.has_remaining() {
                match poll_write_buf(Pin::new(&mut *io), context, &mut rest) {
                    Poll::Ready(Ok(_)) => {}
                    // A server that refuses may close before it has read everything: its answer may be there all the same.
                    Poll::Ready(Err(_)) => return Poll::Ready(Ok(false)),
                    Poll::Pending => {
                        let read = ready!(poll_read_buf(Pin::new(&mut *io), context, buffer));
                        return Poll::Ready(match read {
                            Ok(1..) => Ok(false),
                            Ok(0) | Err(_) => Err(Failure::Broken),
                        });
                    }
                }
            }
            Poll::Ready(Ok(true))
        })
        .await
    }

    async fn read_head(&mut self, watch: &mut Watch) -> Result<Head, Failure> {
        loop {
            if !self.buffer.is_empty()
                && let Some((length, head)) = parse(&self.buffer, watch)?
            {
                self.buffer.advance(length);
                // 100 and 103 come before the answer.
                if watch.status >= 200 {
                    return Ok(head);
                }
            } else if self.buffer.len() > LONGEST_HEAD {
                return Err(Failure::Protocol);
            } else {
                self.fill().await?;
            }
        }
    }

    async fn read_body(&mut self, framing: Framing, watch: &mut Watch) -> Result<(), Failure> {
        match framing {
            Framing::Length(mut left) => {
                while left > 0 {
                    if self.buffer.is_empty() {
                        self.fill().await?;
                    }
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                    watch.data(&self.buffer[..length]);
                    self.buffer.advance(length);
                    left -= length as u64;
                }
            }
            Framing::Chunked => {
                let mut chunked = Chunked::new();
                while !chunked.done() {
                    if self.buffer.is_empty() {
                        self.fill().await?;
                    }
                    let used =
                        chunked.feed(&self.buffer, |data| watch.data(data)).map_err(|_| Failure::Protocol)?;
                    self.buffer.advance(used);
                }
            }
            Framing::Close => loop {
                watch.data(&self.buffer);
                self.buffer.clear();
                self.buffer.reserve(READ);
                if self.io.read_buf(&mut self.buffer).await.map_err(|_| Failure::Broken)? == 0 {
                    return Ok(());
                }
            },
        }
        Ok(())
    }

    /// Reads more; the end of the connection is a failure.
    async fn fill(&mut self) -> Result<(), Failure> {
        self.buffer.reserve(READ);
        match self.io.read_buf(&mut self.buffer).await {
            Ok(1..) => Ok(()),
            Ok(0) | Err(_) => Err(Failure::Broken),
        }
    }
}

/// Length of the head and what it says; `None` if it is not whole yet.
fn parse(buffer: &[u8], watch: &mut Watch) -> Result<Option<(usize, Head)>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(buffer).map_err(|_| Failure::Protocol)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or_default();
    let mut framing = Framing::Close;
    let (mut close, mut retry_after, mut content_type) = (response.version == Some(0), false, &b""[..]);
    for header in response.headers.iter() {
        let (name, value) = (header.name, header.value);
        if name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(value).map_err(|_| Failure::Protocol)?;
            // Chunks say where the body ends, whatever else is said.
            if framing != Framing::Chunked {
                framing = Framing::Length(text.trim().parse().map_err(|_| Failure::Protocol)?);
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            framing = if value.eq_ignore_ascii_case(b"chunked") { Framing::Chunked } else { Framing::Close };
        } else if name.eq_ignore_ascii_case("connection") {
            close |= value.eq_ignore_ascii_case(b"close");
        } else if name.eq_ignore_ascii_case("retry-after") {
            retry_after = true;
        } else if name.eq_ignore_ascii_case("content-type") {
            content_type = value;
        }
    }
    if status < 200 || status == 204 || status == 304 {
        framing = Framing::Length(0);
    }
    watch.head(status, content_type, retry_after);
    Ok(Some((length, Head { framing, close })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Framing, bool, u16, bool) {
        let mut watch = Watch::new(200, None);
        let (length, head) = parse(text.as_bytes(), &mut watch).unwrap().unwrap();
        assert_eq!(length, text.len());
        (head.framing, head.close, watch.status, watch.retry_after)
    }

    #[test]
    fn heads_say_where_the_body_ends() {
        assert_eq!(
            parsed("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"),
            (Framing::Length(12), false, 200, false)
        );
        assert_eq!(
            parsed(
                "HTTP/1.1 429 Slow\r\nRetry-After: 3\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n"
            ),
            (Framing::Chunked, false, 429, true)
        );
        assert_eq!(
            parsed("HTTP/1.1 200 OK\r\nconnection: Close\r\n\r\n"),
            (Framing::Close, true, 200, false)
        );
        assert_eq!(parsed("HTTP/1.1 204 No\r\n\r\n"), (Framing::Length(0), false, 204, false));
    }

    #[test]
    fn what_is_not_whole_or_not_http_is_told() {
        let mut watch = Watch::new(200, None);
        assert!(parse(b"HTTP/1.1 200 OK\r\ncontent-", &mut watch).unwrap().is_none());
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n\r\n", &mut watch).unwrap_err(), Failure::Protocol);
        assert_eq!(
            parse(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", &mut watch).unwrap_err(),
            Failure::Protocol
        );
    }
}
