use proptest::prelude::*;

use super::*;

/// Events (tails joined to theirs), and the concatenation of all pieces.
fn split(stream: &[u8], cuts: &[usize], max: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut splitter = Splitter::with_max(max);
    let (mut events, mut all) = (Vec::<Vec<u8>>::new(), Vec::new());
    let mut take = |piece: Piece<'_>| match piece {
        Piece::Event(raw) => {
            events.push(raw.to_vec());
            all.extend_from_slice(raw);
        }
        Piece::Tail(raw) => {
            if let Some(last) = events.last_mut() {
                last.extend_from_slice(raw);
            }
            all.extend_from_slice(raw);
        }
        Piece::Oversized(raw) | Piece::Rest(raw) => all.extend_from_slice(raw),
    };
    let mut rest = stream;
    for cut in cuts {
        let (head, tail) = rest.split_at(cut % (rest.len() + 1));
        splitter.push(head, &mut take);
        assert!(splitter.held() <= max);
        rest = tail;
    }
    splitter.push(rest, &mut take);
    splitter.finish(&mut take);
    (events, all)
}

#[test]
fn all_line_ends() {
    for end in ["\n", "\r", "\r\n"] {
        let stream = format!("data: a{end}{end}: hi{end}{end}event: x{end}data:b{end}data: c{end}{end}rest");
        let (events, all) = split(stream.as_bytes(), &[], 1000);
        assert_eq!(events.len(), 3, "{end:?}");
        assert_eq!(all, stream.as_bytes());
        let event = Event::parse(&events[2]);
        assert_eq!((event.name, event.data.as_deref()), (&b"x"[..], Some(&b"b\nc"[..])));
        assert_eq!(Event::parse(&events[1]).data, None);
    }
}

#[test]
fn fields_as_the_standard_says() {
    for (raw, data) in [
        ("data\n\n", Some("")),
        ("data:\n\n", Some("")),
        ("data:  x \n\n", Some(" x ")),
        ("data:a:b\n\n", Some("a:b")),
        ("\u{feff}data: x\n\n", Some("x")),
        ("datax: y\n\n", None),
        (":data: y\n\n", None),
        ("id: 7\nretry: 3\n\n", None),
    ] {
        let event = Event::parse(raw.as_bytes());
        assert_eq!(event.data.as_deref(), data.map(str::as_bytes), "{raw:?}");
    }
}

#[test]
fn places_in_data_are_found_in_the_raw_event() {
    let raw = b"event: m\r\ndata: ab\r\ndata:cd\r\n\r\n";
    let event = Event::parse(raw);
    for (at, byte) in event.data.as_deref().unwrap().iter().enumerate().filter(|(_, byte)| **byte != b'\n') {
        assert_eq!(raw[event.raw_at(at).unwrap()], *byte);
    }
}

#[test]
fn large_events_pass() {
    let stream = format!("data: {}\n\ndata: x\n\n", "y".repeat(100));
    let (events, all) = split(stream.as_bytes(), &[3, 9, 50], 64);
    assert_eq!(events, [b"data: x\n\n"]);
    assert_eq!(all, stream.as_bytes());
}

proptest! {
    #[test]
    fn splits_do_not_matter(
        stream in "(data: [a-z]{0,9}|:|x|event: e|\n|\r|\r\n|\n\n|\r\r|\r\n\r\n){0,40}",
        cuts in proptest::collection::vec(0usize..12, 0..40),
        max in 1usize..60,
    ) {
        let (events, all) = split(stream.as_bytes(), &[], max);
        prop_assert_eq!(&all, stream.as_bytes());
        let (cut_events, cut_all) = split(stream.as_bytes(), &cuts, max);
        prop_assert_eq!(&cut_all, stream.as_bytes());
        // An event may be one byte longer or shorter by its tail LF, so only a bound away from all is exact.
        if max > 55 || stream.len() < max {
            prop_assert_eq!(cut_events.len(), events.len());
        }
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), cuts in proptest::collection::vec(any::<usize>(), 0..6)) {
        let (events, all) = split(&bytes, &cuts, 64);
        prop_assert_eq!(all, bytes);
        for event in events {
            let parsed = Event::parse(&event);
            for at in 0..400 {
                prop_assert!(parsed.raw_at(at).is_none_or(|raw| raw >= at));
            }
        }
    }
}
