//! The one corner of the gateway with `unsafe`: calls into librdkafka that rdkafka 0.39 does not offer.
//!
//! Why each is needed:
//! - events instead of rdkafka's `poll`: an error event names its topic and partition and an end-of-partition event
//!   its offset, both of which rdkafka drops; a rebalance arrives in order with the records, on the polling thread;
//!   no allocation per record;
//! - the leader epoch of a message and of the consumer's position;
//! - headers whose names are not UTF-8 (rdkafka panics on them);
//! - topic ids (`DescribeTopics`), offsets of many partitions in one call (`ListOffsets`);
//! - seeking with a leader epoch, which makes librdkafka ask `OffsetForLeaderEpoch` (KIP-320);
//! - `flush` that returns when the queue is empty: rdkafka's waits in steps of 100 ms.
//!
//! Rules: a raw pointer never leaves this file; a type that holds one owns it or borrows its owner.
#![allow(unsafe_code)]

use culvert_proto::record::HeadersBuf;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka_sys as sys;
use std::ffi::{CStr, CString, c_char, c_int};
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::time::Duration;

/// A consumer whose events are taken one by one with [`Consumer::next`]; everything else is rdkafka's.
pub(super) struct Consumer {
    events: Queue, // before `client`: a queue must be gone before the client it belongs to
    client: BaseConsumer<Quiet>,
}

impl Consumer {
    /// Opens a consumer. It connects in the background, so a broker that is away is no error here.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub(super) fn open(settings: &ClientConfig) -> KafkaResult<Consumer> {
        let client = BaseConsumer::from_config_and_context(settings, Quiet)?;
        // SAFETY: the client lives as long as the queue (field order). The returned reference is ours to destroy.
        let events = Queue::owned(unsafe { sys::rd_kafka_queue_get_consumer(client.client().native_ptr()) });
        // Without a group there is no consumer queue, and `open` is never called without `group.id`.
        let events = events.ok_or(rdkafka::error::KafkaError::ClientCreation("no group.id".into()))?;
        Ok(Consumer { events, client })
    }

    /// The next event, waiting at most `wait` for it.
    pub(super) fn next(&self, wait: Duration) -> Option<Event<'_>> {
        self.events.next(wait)
    }
}

impl Deref for Consumer {
    type Target = BaseConsumer<Quiet>;
    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

/// A producer whose events are taken one by one with [`Producer::next`]; everything else is rdkafka's.
pub(super) struct Producer {
    events: Queue, // before `client`, as in `Consumer`
    client: BaseProducer<Quiet>,
}

impl Producer {
    /// Opens a producer. As [`Consumer::open`].
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub(super) fn open(settings: &ClientConfig) -> KafkaResult<Producer> {
        let client = BaseProducer::from_config_and_context(settings, Quiet)?;
        // SAFETY: as in `Consumer::open`. Every client has a main queue.
        let events = Queue::owned(unsafe { sys::rd_kafka_queue_get_main(client.client().native_ptr()) });
        let events = events.ok_or(rdkafka::error::KafkaError::ClientCreation("no main queue".into()))?;
        Ok(Producer { events, client })
    }

    /// The next event, waiting at most `wait` for it.
    pub(super) fn next(&self, wait: Duration) -> Option<Event<'_>> {
        self.events.next(wait)
    }

    /// Sends what is queued without lingering and waits until nothing is on its way, at most `wait`. Says whether
    /// nothing is left. With `delivery.report.only.error`, a failed message counts as on its way until its event
    /// has been taken.
    pub(super) fn flush(&self, wait: Duration) -> bool {
        // SAFETY: the client is alive.
        let code = unsafe { sys::rd_kafka_flush(self.client.client().native_ptr(), milliseconds(wait)) };
        code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
    }
}

impl Deref for Producer {
    type Target = BaseProducer<Quiet>;
    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

/// What rdkafka calls back. Events are taken by hand, so this is only reached while a client shuts down.
#[derive(Clone, Copy)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: rdkafka::error::KafkaError, _: &str) {}
}
impl ConsumerContext for Quiet {}
impl ProducerContext for Quiet {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Something a client has to tell.
pub(super) enum Event<'c> {
    /// A record was read.
    Record(Message<'c>),
    /// Anything else.
    News(News),
}

/// What a client has to tell beside records.
pub(super) enum News {
    /// Everything of this partition below the offset was handed over, and there is nothing behind it now.
    End(Place),
    /// The group gave these partitions to this member.
    Assigned(Vec<(String, i32)>),
    /// The group takes these partitions away.
    Revoked(Vec<(String, i32)>),
    /// An error of one partition, or of the client.
    Failed(Failure),
    /// A message was not delivered.
    Undelivered(Failure),
    /// A log line.
    Log {
        /// Which part of librdkafka speaks, for example `FAIL`.
        facility: String,
        /// The line.
        text: String,
        /// Syslog's level: 3 error, 4 warning, 7 debug.
        level: i32,
    },
    /// The outcome of an asynchronous offset commit.
    Committed(RDKafkaErrorCode),
    /// Nothing for us.
    Other,
}

/// A place in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The topic.
    pub(super) topic: String,
    /// The partition.
    pub(super) partition: i32,
    /// The offset.
    pub(super) offset: i64,
}

/// What went wrong, and where if it concerns one partition.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The code of librdkafka or of the broker.
    pub(super) code: RDKafkaErrorCode,
    /// librdkafka's own words.
    pub(super) text: String,
    /// Whether the client cannot be used any more.
    pub(super) fatal: bool,
    /// The partition, if it is about one.
    pub(super) place: Option<Place>,
}

/// A queue of events, owned.
struct Queue(NonNull<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread (its documentation: "completely thread safe").
unsafe impl Send for Queue {}

impl Queue {
    fn owned(queue: *mut sys::rd_kafka_queue_t) -> Option<Queue> {
        NonNull::new(queue).map(Queue)
    }

    fn next(&self, wait: Duration) -> Option<Event<'_>> {
        self.poll(wait).map(Raw::read)
    }

    fn poll(&self, wait: Duration) -> Option<Raw<'_>> {
        // SAFETY: the queue is alive while `self` is; the event is ours to destroy, which `Raw` does.
        let event = unsafe { sys::rd_kafka_queue_poll(self.0.as_ptr(), milliseconds(wait)) };
        NonNull::new(event).map(|event| Raw {
            event,
            queue: PhantomData,
        })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: owned, and destroyed once.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// An event as librdkafka hands it out, destroyed when dropped.
struct Raw<'q> {
    event: NonNull<sys::rd_kafka_event_t>,
    queue: PhantomData<&'q Queue>,
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // SAFETY: owned, and destroyed once.
        unsafe { sys::rd_kafka_event_destroy(self.event.as_ptr()) }
    }
}

impl<'q> Raw<'q> {
    fn kind(&self) -> i32 {
        // SAFETY: the event is alive while `self` is.
        unsafe { sys::rd_kafka_event_type(self.event.as_ptr()) }
    }

    fn code(&self) -> RDKafkaErrorCode {
        // SAFETY: the event is alive.
        unsafe { sys::rd_kafka_event_error(self.event.as_ptr()) }.into()
    }

    fn read(self) -> Event<'q> {
        Event::News(match self.kind() {
            sys::RD_KAFKA_EVENT_FETCH => match self.message() {
                Some(message) => return Event::Record(message),
                None => News::Other,
            },
            sys::RD_KAFKA_EVENT_ERROR => self.read_error(),
            sys::RD_KAFKA_EVENT_REBALANCE => self.read_rebalance(),
            sys::RD_KAFKA_EVENT_DR => self.read_report(),
            sys::RD_KAFKA_EVENT_LOG => self.read_log(),
            sys::RD_KAFKA_EVENT_OFFSET_COMMIT => News::Committed(self.code()),
            _ => News::Other,
        })
    }

    /// The event's first message.
    fn message(self) -> Option<Message<'q>> {
        // SAFETY: the event is alive; the message it returns lives as long as the event, which `Message` owns.
        let message = unsafe { sys::rd_kafka_event_message_next(self.event.as_ptr()) };
        NonNull::new(message.cast_mut()).map(|message| Message { message, event: self })
    }

    fn read_error(self) -> News {
        let place = self.place();
        match (self.code(), place) {
            (RDKafkaErrorCode::PartitionEOF, Some(place)) => News::End(place),
            (code, place) => {
                // SAFETY: the event is alive; the text lives as long as it and is copied here.
                let text = unsafe { text(sys::rd_kafka_event_error_string(self.event.as_ptr())) };
                // SAFETY: the event is alive.
                let fatal = unsafe { sys::rd_kafka_event_error_is_fatal(self.event.as_ptr()) } != 0;
                News::Failed(Failure {
                    code,
                    text,
                    fatal,
                    place,
                })
            }
        }
    }

    fn place(&self) -> Option<Place> {
        // SAFETY: the event is alive; the result is ours and destroyed below.
        let place = NonNull::new(unsafe { sys::rd_kafka_event_topic_partition(self.event.as_ptr()) })?;
        // SAFETY: a fresh, valid topic partition; its topic is a C string.
        let read = unsafe {
            let raw = place.as_ref();
            Place {
                topic: text(raw.topic),
                partition: raw.partition,
                offset: raw.offset,
            }
        };
        // SAFETY: owned, and destroyed once.
        unsafe { sys::rd_kafka_topic_partition_destroy(place.as_ptr()) };
        Some(read)
    }

    fn read_rebalance(self) -> News {
        // SAFETY: the event is alive and owns the list.
        let list = unsafe { sys::rd_kafka_event_topic_partition_list(self.event.as_ptr()) };
        let partitions = elements(list)
            .into_iter()
            .map(|place| (place.topic, place.partition))
            .collect();
        match self.code() {
            RDKafkaErrorCode::AssignPartitions => News::Assigned(partitions),
            _ => News::Revoked(partitions),
        }
    }

    /// With `delivery.report.only.error` each message of a report failed; the first one speaks for all.
    fn read_report(self) -> News {
        let Some(message) = self.message() else {
            return News::Other;
        };
        let code = RDKafkaErrorCode::from(message.raw().err);
        if code == RDKafkaErrorCode::NoError {
            return News::Other;
        }
        let (topic, partition, offset) = (message.topic().to_owned(), message.partition(), message.offset());
        let place = Some(Place {
            topic,
            partition,
            offset,
        });
        News::Undelivered(Failure {
            code,
            text: code.to_string(),
            fatal: false,
            place,
        })
    }

    fn read_log(self) -> News {
        let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the event is alive; the pointers it fills in live as long and are copied below.
        unsafe {
            sys::rd_kafka_event_log(
                self.event.as_ptr(),
                &raw mut facility,
                &raw mut line,
                &raw mut level,
            );
            News::Log {
                facility: text(facility),
                text: text(line),
                level,
            }
        }
    }
}

/// A record in librdkafka's memory, freed when dropped.
pub(super) struct Message<'q> {
    message: NonNull<sys::rd_kafka_message_t>,
    #[expect(dead_code, reason = "owns the message's memory")]
    event: Raw<'q>,
}

/// A header's name is not UTF-8, which Kafka's protocol demands and does not enforce.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NameNotUtf8;

impl Message<'_> {
    fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: the message lives as long as the event, which `self` owns.
        unsafe { self.message.as_ref() }
    }

    /// The topic's name; empty for a name that is not UTF-8, which Kafka does not allow.
    pub(super) fn topic(&self) -> &str {
        if self.raw().rkt.is_null() {
            return "";
        }
        // SAFETY: a message's topic outlives the message, and its name is a C string.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.raw().rkt)) }
            .to_str()
            .unwrap_or_default()
    }

    pub(super) fn partition(&self) -> i32 {
        self.raw().partition
    }

    pub(super) fn offset(&self) -> i64 {
        self.raw().offset
    }

    pub(super) fn key(&self) -> Option<&[u8]> {
        // SAFETY: pointer and length describe bytes that live as long as the message.
        unsafe { bytes(self.raw().key.cast(), self.raw().key_len) }
    }

    pub(super) fn value(&self) -> Option<&[u8]> {
        // SAFETY: as for the key.
        unsafe { bytes(self.raw().payload.cast(), self.raw().len) }
    }

    /// Milliseconds since 1970; -1 where there is none.
    pub(super) fn timestamp(&self) -> i64 {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive; `kind` is ours.
        unsafe { sys::rd_kafka_message_timestamp(self.message.as_ptr(), &raw mut kind) }
    }

    /// The leader epoch under which the record was written; -1 where there is none.
    pub(super) fn leader_epoch(&self) -> i32 {
        // SAFETY: the message is alive.
        unsafe { sys::rd_kafka_message_leader_epoch(self.message.as_ptr()) }
    }

    /// Replaces what `buffer` holds by this record's headers.
    ///
    /// # Errors
    /// [`NameNotUtf8`]. A NUL in a name ends it: librdkafka hands names out as C strings.
    pub(super) fn headers(&self, buffer: &mut HeadersBuf) -> Result<(), NameNotUtf8> {
        buffer.clear();
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive and keeps the headers.
        let code = unsafe { sys::rd_kafka_message_headers(self.message.as_ptr(), &raw mut headers) };
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(()); // there are none
        }
        for index in 0.. {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers live as long as the message; an index behind the last one is an error.
            let code = unsafe {
                sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size)
            };
            if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                break;
            }
            // SAFETY: the name is a C string and the value `size` bytes, both alive with the message.
            let (name, value) = unsafe { (CStr::from_ptr(name), bytes(value.cast(), size)) };
            buffer.push(name.to_str().map_err(|_| NameNotUtf8)?, value);
        }
        Ok(())
    }
}

/// What a broker says about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicDescription {
    /// Its UUID (KIP-516).
    pub(super) id: [u8; 16],
    /// How many partitions it has.
    pub(super) partitions: u32,
}

/// A client to ask a broker with. Both kinds of client may.
pub(super) trait Ask {
    #[doc(hidden)]
    fn handle(&self) -> *mut sys::rd_kafka_t;
}

impl Ask for Consumer {
    fn handle(&self) -> *mut sys::rd_kafka_t {
        self.client.client().native_ptr()
    }
}

impl Ask for Producer {
    fn handle(&self) -> *mut sys::rd_kafka_t {
        self.client.client().native_ptr()
    }
}

/// Id and size of each of `topics`, in their order, waiting at most `wait` for the broker.
///
/// # Errors
/// The code of the whole request; each topic has its own result beside.
pub(super) fn describe_topics(
    client: &impl Ask,
    topics: &[&str],
    wait: Duration,
) -> Result<Vec<Result<TopicDescription, RDKafkaErrorCode>>, RDKafkaErrorCode> {
    let names: Vec<CString> = topics
        .iter()
        .filter_map(|name| CString::new(*name).ok())
        .collect();
    if names.len() != topics.len() {
        return Err(RDKafkaErrorCode::InvalidTopic);
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let request = Request::new(
        client,
        sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        wait,
    )?;
    // SAFETY: names, collection, options and queue outlive the call, which copies what it needs.
    unsafe {
        let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        sys::rd_kafka_DescribeTopics(
            client.handle(),
            collection,
            request.options,
            request.queue.0.as_ptr(),
        );
        sys::rd_kafka_TopicCollection_destroy(collection);
    }
    let answer = request.answer(wait)?;
    let mut count = 0;
    // SAFETY: the answer is alive to the end of this function and of the kind that was asked for; the array has
    // `count` elements, and all that is reached from it lives as long as the answer.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(answer.event.as_ptr());
        if result.is_null() {
            return Err(RDKafkaErrorCode::BadMessage);
        }
        let found = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        Ok((0..count).map(|index| description(*found.add(index))).collect())
    }
}

/// # Safety
/// `topic` must be alive.
unsafe fn description(
    topic: *const sys::rd_kafka_TopicDescription_t,
) -> Result<TopicDescription, RDKafkaErrorCode> {
    // SAFETY: by this function's contract; the error, the id and the count belong to the description.
    unsafe {
        let error = sys::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            let code = RDKafkaErrorCode::from(sys::rd_kafka_error_code(error));
            if code != RDKafkaErrorCode::NoError {
                return Err(code);
            }
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let high = sys::rd_kafka_Uuid_most_significant_bits(id).to_be_bytes();
        let low = sys::rd_kafka_Uuid_least_significant_bits(id).to_be_bytes();
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&high);
        uuid[8..].copy_from_slice(&low);
        let mut partitions = 0;
        sys::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        Ok(TopicDescription {
            id: uuid,
            partitions: u32::try_from(partitions).unwrap_or(u32::MAX),
        })
    }
}

/// Which offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// The log's first offset.
    Start,
    /// The offset behind the last record of a decided transaction (the last stable offset).
    CommittedEnd,
    /// The offset behind the last record of all (the high watermark).
    End,
}

/// The offset at `edge` of each of `partitions`, in their order.
///
/// # Errors
/// The code of the whole request; each partition has its own result beside.
pub(super) fn list_offsets(
    client: &impl Ask,
    partitions: &[(&str, i32)],
    edge: Edge,
    wait: Duration,
) -> Result<Vec<Result<i64, RDKafkaErrorCode>>, RDKafkaErrorCode> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let (spec, isolation) = match edge {
        Edge::Start => (
            -2,
            sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
        ),
        Edge::CommittedEnd => (
            -1,
            sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
        ),
        Edge::End => (
            -1,
            sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
        ),
    };
    let list = list_of(
        partitions
            .iter()
            .map(|(topic, partition)| (*topic, *partition, spec, -1)),
    );
    let request = Request::new(
        client,
        sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS,
        wait,
    )?;
    // SAFETY: list, options and queue outlive the call, which copies what it needs.
    unsafe {
        let refused = sys::rd_kafka_AdminOptions_set_isolation_level(request.options, isolation);
        taken(refused)?;
        sys::rd_kafka_ListOffsets(
            client.handle(),
            list.ptr(),
            request.options,
            request.queue.0.as_ptr(),
        );
    }
    let answer = request.answer(wait)?;
    let mut count = 0;
    let mut found = Vec::new();
    // SAFETY: as in `describe_topics`.
    unsafe {
        let result = sys::rd_kafka_event_ListOffsets_result(answer.event.as_ptr());
        if result.is_null() {
            return Err(RDKafkaErrorCode::BadMessage);
        }
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        for index in 0..count {
            let place = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(index));
            found.push((
                text(place.topic),
                place.partition,
                RDKafkaErrorCode::from(place.err),
                place.offset,
            ));
        }
    }
    Ok(partitions
        .iter()
        .map(|(topic, partition)| {
            let mine = found
                .iter()
                .find(|(name, number, ..)| name == topic && number == partition);
            match mine {
                Some((.., RDKafkaErrorCode::NoError, offset)) => Ok(*offset),
                Some((.., code, _)) => Err(*code),
                None => Err(RDKafkaErrorCode::UnknownPartition),
            }
        })
        .collect())
}

/// Where to seek in a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// The topic.
    pub(super) topic: &'a str,
    /// The partition.
    pub(super) partition: i32,
    /// The offset.
    pub(super) offset: u64,
    /// The leader epoch of the record before it; -1 where it is not known.
    pub(super) epoch: i32,
}

/// Seeks. With an epoch other than -1 librdkafka first asks the broker where that epoch ended (KIP-320), and reports a
/// truncation as a [`Failure`] of the partition.
///
/// # Errors
/// The code of the whole call; each partition has its own result beside.
pub(super) fn seek(
    consumer: &Consumer,
    targets: &[Target<'_>],
    wait: Duration,
) -> Result<Vec<Result<(), RDKafkaErrorCode>>, RDKafkaErrorCode> {
    let place = |target: &Target<'_>| i64::try_from(target.offset).unwrap_or(i64::MAX);
    let list = list_of(
        targets
            .iter()
            .map(|to| (to.topic, to.partition, place(to), to.epoch)),
    );
    // SAFETY: client and list are alive; the error is ours and taken.
    unsafe {
        let error = sys::rd_kafka_seek_partitions(consumer.handle(), list.ptr(), milliseconds(wait));
        taken(error)?;
        let raw = &*list.ptr();
        let count = usize::try_from(raw.cnt).unwrap_or(0);
        Ok((0..count)
            .map(
                |index| match RDKafkaErrorCode::from((*raw.elems.add(index)).err) {
                    RDKafkaErrorCode::NoError => Ok(()),
                    code => Err(code),
                },
            )
            .collect())
    }
}

/// The leader epoch of the place before `end`, where the consumer passed it: it was a record, or a control record, of
/// which nothing else is told. -1 where that place was compacted away, whose epoch nobody tells.
///
/// Right only while `end` is the last event taken: what is taken later moves the consumer on.
pub(super) fn epoch_before(consumer: &Consumer, end: &Place) -> i32 {
    let list = list_of([(end.topic.as_str(), end.partition, -1, -1)].into_iter());
    // SAFETY: client and list are alive; the list has the one element that was put in, or none.
    unsafe {
        let code = sys::rd_kafka_position(consumer.handle(), list.ptr());
        let list = &*list.ptr();
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || list.cnt != 1 {
            return -1;
        }
        if (*list.elems).offset != end.offset {
            return -1;
        }
        sys::rd_kafka_topic_partition_get_leader_epoch(list.elems)
    }
}

/// The names of all settings that this librdkafka knows for a client.
pub(super) fn setting_names() -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: a conf of our own, dumped into an array of alternating names and values, both freed below.
    unsafe {
        let conf = sys::rd_kafka_conf_new();
        let mut count = 0;
        let dump = sys::rd_kafka_conf_dump(conf, &raw mut count);
        names.extend((0..count).step_by(2).map(|index| text(*dump.add(index))));
        sys::rd_kafka_conf_dump_free(dump, count);
        sys::rd_kafka_conf_destroy(conf);
    }
    // Accepted everywhere, and dumped under their other names or not at all.
    names.extend(["bootstrap.servers", "compression.type", "retries", "acks"].map(str::to_owned));
    names
}

/// An admin request under way: its options and the queue where the answer arrives.
struct Request {
    options: *mut sys::rd_kafka_AdminOptions_t,
    queue: Queue,
}

impl Request {
    fn new(
        client: &impl Ask,
        operation: sys::rd_kafka_admin_op_t,
        wait: Duration,
    ) -> Result<Request, RDKafkaErrorCode> {
        // SAFETY: the client is alive; queue and options are ours and freed on drop.
        let queue = Queue::owned(unsafe { sys::rd_kafka_queue_new(client.handle()) });
        let queue = queue.ok_or(RDKafkaErrorCode::Fail)?;
        // SAFETY: as above.
        let options = unsafe { sys::rd_kafka_AdminOptions_new(client.handle(), operation) };
        let request = Request { options, queue };
        let mut reason = [0; 256];
        // SAFETY: options are alive, the buffer is as long as said.
        let code = unsafe {
            sys::rd_kafka_AdminOptions_set_request_timeout(
                options,
                milliseconds(wait),
                reason.as_mut_ptr(),
                reason.len(),
            )
        };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError => Ok(request),
            code => Err(code),
        }
    }

    fn answer(&self, wait: Duration) -> Result<Raw<'_>, RDKafkaErrorCode> {
        // librdkafka answers by itself after `wait`; the second more only guards against its never doing so.
        let answer = self
            .queue
            .poll(wait + Duration::from_secs(1))
            .ok_or(RDKafkaErrorCode::OperationTimedOut)?;
        match answer.code() {
            RDKafkaErrorCode::NoError => Ok(answer),
            code => Err(code),
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: owned, and destroyed once.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.options) }
    }
}

/// A list of `(topic, partition, offset, leader epoch)`. A topic that is no C string is left out.
fn list_of<'a>(places: impl Iterator<Item = (&'a str, i32, i64, i32)>) -> TopicPartitionList {
    let list = TopicPartitionList::new();
    for (topic, partition, offset, epoch) in places {
        let Ok(topic) = CString::new(topic) else { continue };
        // SAFETY: the list is alive; the element belongs to it and the topic is copied.
        unsafe {
            let element = sys::rd_kafka_topic_partition_list_add(list.ptr(), topic.as_ptr(), partition);
            (*element).offset = offset;
            sys::rd_kafka_topic_partition_set_leader_epoch(element, epoch);
        }
    }
    list
}

fn elements(list: *mut sys::rd_kafka_topic_partition_list_t) -> Vec<Place> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: a list has `cnt` valid elements whose topics are C strings.
    unsafe {
        let list = &*list;
        (0..usize::try_from(list.cnt).unwrap_or(0))
            .map(|index| {
                let element = &*list.elems.add(index);
                Place {
                    topic: text(element.topic),
                    partition: element.partition,
                    offset: element.offset,
                }
            })
            .collect()
    }
}

/// Takes an error object that librdkafka gave away.
///
/// # Safety
/// `error` must be null or owned by the caller.
unsafe fn taken(error: *mut sys::rd_kafka_error_t) -> Result<(), RDKafkaErrorCode> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: by this function's contract; destroyed once.
    unsafe {
        let code = sys::rd_kafka_error_code(error);
        sys::rd_kafka_error_destroy(error);
        Err(code.into())
    }
}

/// # Safety
/// `start` must be null or point at `length` bytes that live as long as the result.
unsafe fn bytes<'a>(start: *const u8, length: usize) -> Option<&'a [u8]> {
    // SAFETY: by this function's contract.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start, length) })
}

/// # Safety
/// `start` must be null or a C string.
unsafe fn text(start: *const c_char) -> String {
    if start.is_null() {
        return String::new();
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned()
}

/// Whole milliseconds, rounded up so that a short wait is not a busy loop.
fn milliseconds(wait: Duration) -> c_int {
    c_int::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX)
}
