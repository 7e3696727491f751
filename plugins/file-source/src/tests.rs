use super::*;
use culvert_plugin::testing::{self, rename_file, set_file};

const LOG: &str = "/log/app.log";

fn open(resume: Vec<ResumePoint>) -> FileSource {
    let settings = testing::settings([("file", LOG), ("topic", "lines")]).expect("settings");
    FileSource::open(settings, resume).expect("it opens")
}

/// The lines of one poll, and where to go on.
fn poll(source: &mut FileSource, most: u32) -> (Vec<String>, Option<ResumePoint>) {
    let limits = Limits {
        messages: most,
        bytes: 1_000_000,
        wait: Duration::ZERO,
    };
    let page = source.poll(limits).expect("a page");
    let value = |message: &culvert_plugin::source::Produced| {
        assert_eq!(message.topic, "lines");
        String::from_utf8(message.message.value.clone().expect("a value")).expect("text")
    };
    assert_eq!(
        page.idle_ms.is_some(),
        page.messages.is_empty(),
        "it waits only for what is not there"
    );
    (
        page.messages.iter().map(value).collect(),
        page.resume_points.last().cloned(),
    )
}

/// Everything there is now.
fn all(source: &mut FileSource) -> (Vec<String>, Vec<ResumePoint>) {
    let (mut lines, mut points) = (Vec::new(), Vec::new());
    loop {
        let (more, point) = poll(source, 2);
        points.extend(point);
        if more.is_empty() {
            return (lines, points);
        }
        lines.extend(more);
    }
}

fn append(path: &str, text: &str) {
    files::append(path, None, text.as_bytes()).expect("appended");
}

#[test]
fn lines_come_once_they_are_whole() {
    let mut source = open(Vec::new());
    assert_eq!(all(&mut source).0, Vec::<String>::new(), "no file yet");
    set_file(LOG, b"one\r\n\ntwo\nthr");
    assert_eq!(all(&mut source).0, ["one", "", "two"]);
    append(LOG, "ee\n");
    assert_eq!(all(&mut source).0, ["three"]);
}

#[test]
fn from_each_resume_point_come_the_same_lines() {
    set_file(LOG, b"a\nb\nc\nd\ne\n");
    let (lines, points) = all(&mut open(Vec::new()));
    assert_eq!((lines.len(), points.len()), (5, 3));
    for (point, rest) in points.into_iter().zip([&["c", "d", "e"][..], &["e"], &[]]) {
        assert_eq!(all(&mut open(vec![point])).0, rest);
    }
}

#[test]
fn a_resume_point_of_kafka_connect_is_understood() {
    set_file(LOG, b"a\nb\nc\n");
    let point = ResumePoint {
        partition: format!("{{\"filename\": \"{LOG}\"}}"),
        offset: "{\"position\":2}".to_owned(),
    };
    assert_eq!(all(&mut open(vec![point])).0, ["b", "c"]);
}

#[test]
fn a_rotated_file_is_read_to_its_end_before_the_new_one() {
    set_file(LOG, b"a\nb\n");
    let mut source = open(Vec::new());
    let (_, points) = all(&mut source);
    rename_file(LOG, "/log/app.log.1");
    append("/log/app.log.1", "c\nunfinished");
    set_file(LOG, b"");
    assert_eq!(
        all(&mut source).0,
        ["c"],
        "the writer may still be at the old one"
    );
    append(LOG, "d\n");
    assert_eq!(all(&mut source).0, ["unfinished", "d"]);
    // And again, with a gateway that was away meanwhile.
    rename_file("/log/app.log.1", "/log/app.log.2");
    rename_file(LOG, "/log/app.log.1");
    set_file(LOG, b"e\n");
    set_file("/log/app.log.2.gz", b"no lines\n");
    let again = open(points.last().cloned().into_iter().collect());
    assert_eq!(all(&mut { again }).0, ["c", "unfinished", "d", "e"]);
    assert_eq!(all(&mut source).0, ["e"]);
}

/// The file is rotated between two calls of the plugin, whichever they are, with a line at the last moment: in a poll of an
/// instance that lives on, and in the first one of an instance that goes on behind a resume point.
#[test]
fn a_rotation_at_any_moment_loses_and_doubles_no_line() {
    for (at, is_fresh) in (0..30).flat_map(|at| [(at, false), (at, true)]) {
        let file = format!("/log/{at}-{is_fresh}.log");
        let settings = || testing::settings([("file", file.as_str()), ("topic", "lines")]).expect("settings");
        let open = |resume| FileSource::open(settings(), resume).expect("it opens");
        set_file(&file, b"a\nb\n");
        let mut source = open(Vec::new());
        let (mut lines, points) = all(&mut source);
        if is_fresh {
            source = open(points.last().cloned().into_iter().collect());
        }
        append(&file, "c\n");
        let (mut calls, log) = (0, file.clone());
        testing::set_meanwhile(move || {
            if calls == at {
                append(&log, "d\n");
                rename_file(&log, &format!("{log}.1"));
            }
            // For a moment there is no such file.
            if calls == at + 1 {
                set_file(&log, b"e\n");
            }
            calls += 1;
        });
        for _ in 0..50 {
            lines.extend(poll_or_again(&mut source));
        }
        testing::set_meanwhile(|| {});
        assert_eq!(lines, ["a", "b", "c", "d", "e"], "at call {at}, {is_fresh}");
    }
}

/// The lines of one poll; none where it asks to be called again.
fn poll_or_again(source: &mut FileSource) -> Vec<String> {
    let limits = Limits {
        messages: 2,
        bytes: 1_000_000,
        wait: Duration::ZERO,
    };
    let page = match source.poll(limits) {
        Ok(page) => page,
        Err(Failure::Retry(_)) => return Vec::new(),
        Err(failure) => panic!("{}", failure.text()),
    };
    let value = |produced: culvert_plugin::source::Produced| produced.message.value.expect("a value");
    page.messages
        .into_iter()
        .map(|produced| String::from_utf8(value(produced)).expect("text"))
        .collect()
}

#[test]
fn a_file_that_was_cut_is_read_from_its_beginning() {
    set_file(LOG, b"aaaa\nbbbb\n");
    let mut source = open(Vec::new());
    let (_, points) = all(&mut source);
    files::truncate(LOG, 0).expect("cut");
    append(LOG, "c\n");
    assert_eq!(all(&mut source).0, ["c"]);
    // Cut, and longer again than it was: only its beginning tells.
    append(LOG, "dddd\neeee\nffff\n");
    let again = open(points.last().cloned().into_iter().collect());
    assert_eq!(all(&mut { again }).0, ["c", "dddd", "eeee", "ffff"]);
}

#[test]
fn a_line_that_is_too_long_stops_and_says_where() {
    set_file(LOG, &[b"ok\n".to_vec(), vec![b'x'; 1100]].concat());
    let settings = [("file", LOG), ("topic", "lines"), ("line.max", "1KiB")];
    let settings = testing::settings(settings).expect("settings");
    let mut source = FileSource::open(settings, Vec::new()).expect("it opens");
    assert_eq!(poll(&mut source, 10).0, ["ok"]);
    let limits = Limits {
        messages: 10,
        bytes: 1_000,
        wait: Duration::ZERO,
    };
    let failure = source.poll(limits).expect_err("too long");
    assert!(failure.text().contains("at byte 3"), "{}", failure.text());
}
