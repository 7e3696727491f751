use super::*;

/// Counts up from where it is told to go on.
struct Counter {
    next: u64,
}

impl Source for Counter {
    type Config = ();
    const ABOUT: About = About::new("counter", "0.1.0", "Counts");

    fn open((): (), resume: Vec<ResumePoint>) -> Result<Counter, Failure> {
        let parse = |point: &ResumePoint| point.offset.parse();
        let next = resume.first().map_or(Ok(0), parse);
        next.map(|next| Counter { next })
            .map_err(|_| Failure::fatal("the resume point is no number"))
    }

    fn poll(&mut self, limits: Limits) -> Result<Page, Failure> {
        let mut page = Page::empty();
        for _ in 0..limits.messages {
            self.next += 1;
            page.resume("{}", self.next.to_string());
            page.add(NewMessage::new(self.next.to_string()).topic("numbers"));
        }
        Ok(if limits.messages == 0 {
            page.idle(limits.wait)
        } else {
            page
        })
    }
}

crate::export_source!(Counter);

fn limits(messages: u32) -> Limits {
    Limits {
        messages,
        bytes: 1_000,
        wait: Duration::from_millis(30),
    }
}

#[test]
fn a_page_binds_each_message_to_its_resume_point() {
    let mut counter = Counter::open((), Vec::new()).unwrap();
    let page = counter.poll(limits(2)).unwrap();
    let points: Vec<u32> = page.messages.iter().map(|produced| produced.resume).collect();
    assert_eq!(points, [0, 1]);
    assert_eq!(page.messages[1].topic, "numbers");
    let last = page.resume_points.last().unwrap().clone();
    let page = Counter::open((), vec![last]).unwrap().poll(limits(1)).unwrap();
    assert_eq!(page.messages[0].message.value.as_deref(), Some(&b"3"[..]));
    assert_eq!(counter.poll(limits(0)).unwrap().idle_ms, Some(30));
}

#[test]
#[should_panic = "call `resume` first"]
fn a_message_without_a_resume_point_is_a_mistake() {
    Page::empty().add(NewMessage::new("x").topic("t"));
}
