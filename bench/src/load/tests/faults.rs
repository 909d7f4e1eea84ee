//! Servers that refuse, break, close and stand still.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{load, server};

#[test]
fn too_many_requests_are_counted_apart() {
    let count = AtomicUsize::new(0);
    let address = server::start(move |_| {
        let mut reply = server::json(429);
        if count.fetch_add(1, Ordering::SeqCst).is_multiple_of(4) {
            reply.headers_mut().insert("retry-after", 3.into());
        }
        reply
    });
    for http in ["1", "2"] {
        let report = load(address, &["--http", http, "--requests", "20"]);
        assert_eq!((&report["requests"], &report["errors"]), (&0.into(), &20.into()), "{report}");
        assert_eq!(
            report["rate_limited"],
            serde_json::json!({"count": 20, "with_retry_after": 5}),
            "{report}"
        );
        assert_eq!(
            (&report["statuses"]["429"], &report["failures"]["status"]),
            (&20.into(), &20.into()),
            "{report}"
        );
    }
    let report = load(address, &["--expect", "429", "--requests", "20"]);
    assert_eq!((&report["requests"], &report["rate_limited"]["count"]), (&20.into(), &20.into()), "{report}");
}

#[test]
fn a_server_that_is_not_there_is_a_result() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for http in ["1", "2"] {
        let report = load(address, &["--http", http, "--requests", "5", "--concurrency", "2"]);
        assert_eq!((&report["errors"], &report["failures"]["connect"]), (&5.into(), &5.into()), "{report}");
        assert_eq!((&report["bad"]["0"], &report["p50_ms"]), (&5.into(), &().into()), "{report}");
    }
}

#[test]
fn a_request_has_its_time() {
    for http in ["1", "2"] {
        let address = server::start_async(|_| async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            server::json(200)
        });
        let report =
            load(address, &["--http", http, "--timeout", "0.1", "--requests", "4", "--concurrency", "2"]);
        assert_eq!(report["failures"]["timeout"], 4, "{report}");
    }
}

/// A server of raw bytes: this answer to every request of a kilobyte, then the connection is closed.
fn raw(answer: &'static [u8], linger: Duration) -> std::net::SocketAddr {
    server::listen(move |mut stream| async move {
        let mut request = [0; 64 * 1024];
        if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
            let _ = stream.write_all(answer).await;
            tokio::time::sleep(linger).await;
        }
    })
}

#[test]
fn closed_connections_are_opened_anew() {
    let polite = raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", Duration::ZERO);
    let to_the_end = raw(b"HTTP/1.1 200 OK\r\n\r\n{\"a\":1}", Duration::ZERO);
    for address in [polite, to_the_end] {
        let report = load(address, &["--requests", "20", "--concurrency", "2"]);
        assert_eq!((&report["requests"], &report["errors"]), (&20.into(), &0.into()), "{report}");
        assert!(report["connects"].as_u64() >= Some(20), "{report}");
    }
    // Closed without a word: seen before the next request, a while later.
    let silent = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Duration::ZERO);
    let report = load(silent, &["--requests", "5", "--concurrency", "1", "--rate", "10"]);
    assert_eq!((&report["requests"], &report["errors"]), (&5.into(), &0.into()), "{report}");
}

#[test]
fn broken_answers_are_told_apart() {
    for (answer, failure) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}"[..], "broken"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", "broken"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nhello\r\n", "protocol"),
        (b"", "broken"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "protocol"),
    ] {
        let address = raw(answer, Duration::ZERO);
        let report = load(address, &["--requests", "4", "--concurrency", "2"]);
        assert_eq!(
            (&report["requests"], &report["failures"][failure]),
            (&0.into(), &4.into()),
            "{failure}: {report}"
        );
    }
}

#[test]
fn an_answer_before_the_end_of_the_request_is_heard() {
    // Reads a little of 20 MB, refuses, and reads no further.
    let address = raw(b"HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\n{}", Duration::from_secs(5));
    let options = ["--expect", "401", "--body-bytes", "20000000", "--requests", "2", "--concurrency", "1"];
    let report = load(address, &options);
    assert_eq!((&report["requests"], &report["errors"]), (&2.into(), &0.into()), "{report}");
}
