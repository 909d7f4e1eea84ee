use super::*;

#[test]
fn text_is_kept_up_to_its_bound_and_no_character_is_cut() {
    let mut words = Words::new(7);
    words.push("grün".as_bytes(), false);
    assert_eq!((words.len(), words.wants(10)), (5, 2));
    words.push(b"e", false);
    assert_eq!(words.clone().finish().unwrap(), "grüne", "nothing is missing yet");
    words.push("ö".as_bytes(), false);
    assert!(words.is_cut());
    assert_eq!(words.clone().finish().unwrap(), "grüne ... (truncated)");
    words.push(b"x", false);
    assert_eq!((words.wants(1), words.finish().unwrap().as_str()), (0, "grüne ... (truncated)"));
    let mut whole = Words::new(100);
    whole.push(b"abc", true);
    assert_eq!(whole.finish().unwrap(), "abc ... (truncated)");
    assert_eq!(Words::new(5).finish(), None);
    let mut odd = Words::new(5);
    odd.push(b"a\0\xff", false);
    assert_eq!(odd.finish().unwrap(), "a\u{fffd}\u{fffd}");
}

fn said(stream: &str, max: usize) -> Option<String> {
    let whole = {
        let mut words = StreamWords::new(max);
        words.push(stream.as_bytes());
        words.finish()
    };
    for cut in 0..stream.len() {
        let mut words = StreamWords::new(max);
        words.push(&stream.as_bytes()[..cut]);
        words.push(&stream.as_bytes()[cut..]);
        assert_eq!(words.finish(), whole, "cut at {cut}");
    }
    whole
}

#[test]
fn a_stream_is_put_together_wherever_it_is_cut() {
    let stream = concat!(
        ": keep-alive\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\\u00e9\\n\"}}]}\r\n\r\n",
        "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"other\"}}]}\n\n",
        "data: not json\n\ndata: {\"choices\":7}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":null,\"tool_calls\":[{\"index\":0,\"function\":\
         {\"name\":\"f\",\"arguments\":\"{\\\"x\\\"\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\":1}\"}}]}}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n",
        "data: [DONE]\n\n"
    );
    assert_eq!(said(stream, 1_000).unwrap(), "aé\nf{\"x\":1}");
    assert_eq!(said(stream, 4).unwrap(), "aé\n ... (truncated)");
    assert_eq!(
        said("data: {\"choices\":[{\"text\":\"one\"}]}\n\ndata: {\"choices\":[{\"text\":\" two\"}]}\n\n", 99)
            .unwrap(),
        "one two"
    );
    assert_eq!(said("data: [DONE]\n\n", 99), None);
}

#[test]
fn an_event_without_end_is_not_held() {
    let mut words = StreamWords::new(10);
    for _ in 0..100 {
        words.push(&[b'x'; 4_096]);
    }
    assert!(words.events.held() <= MAX_EVENT);
    assert_eq!(words.finish().unwrap(), " ... (truncated)");
}

#[test]
fn the_other_dialects_are_heard_too() {
    let heard = |body: &str| {
        let mut stream = StreamWords::new(1_000);
        for piece in body.as_bytes().chunks(3) {
            stream.push(piece);
        }
        stream.finish().unwrap()
    };
    let messages = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi \"}}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"name\":\"look\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n",
    );
    assert_eq!(heard(messages), "Hi look{}");
    let responses = concat!(
        "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi \"}\n\n",
        "data: {\"type\":\"response.output_item.added\",\"item\":{\"type\":\"function_call\",\"name\":\"look\"}}\n\n",
        "data: {\"type\":\"response.function_call_arguments.delta\",\"delta\":\"{}\"}\n\n",
    );
    assert_eq!(heard(responses), "Hi look{}");
}
