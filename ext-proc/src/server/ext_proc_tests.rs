use futures_util::stream;
use http_body_util::StreamBody;

use super::*;

fn body(pieces: &[&[u8]]) -> impl Body<Data = Bytes, Error = Infallible> + use<> {
    let frames: Vec<_> = pieces.iter().map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    StreamBody::new(stream::iter(frames))
}

#[tokio::test]
async fn a_message_is_put_together_from_any_pieces() {
    let whole = framed(b"question");
    for at in 0..=whole.len() {
        let (first, second) = whole.split_at(at);
        assert_eq!(message(body(&[first, second, b"what follows"])).await.unwrap(), "question"[..], "{at}");
    }
    let bytes: Vec<&[u8]> = whole.chunks(1).collect();
    assert_eq!(message(body(&bytes)).await.unwrap(), "question"[..]);
    assert_eq!(message(body(&[&framed(b"")])).await.unwrap(), ""[..]);
}

#[tokio::test]
async fn what_is_no_message_is_refused_by_name() {
    let code = async |pieces: &[&[u8]]| message(body(pieces)).await.unwrap_err().code();
    assert_eq!(code(&[]).await, tonic::Code::InvalidArgument);
    assert_eq!(code(&[b"\0\0\0\0\x09question"]).await, tonic::Code::InvalidArgument, "cut short");
    assert_eq!(code(&[b"\x01\0\0\0\x08question"]).await, tonic::Code::Unimplemented, "compressed");
    assert_eq!(code(&[b"\0\xff\0\0\0"]).await, tonic::Code::OutOfRange, "nobody waits for so much");
}
