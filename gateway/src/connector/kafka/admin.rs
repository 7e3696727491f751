//! Makes topics and asks for their settings. Rare, so each use opens a client of its own.

use super::ASK_TIMEOUT;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::future::Future;

/// A client that makes topics.
pub(super) struct Admin {
    client: AdminClient<DefaultClientContext>,
    options: AdminOptions,
    runtime: tokio::runtime::Runtime,
}

impl Admin {
    /// # Errors
    /// When librdkafka refuses a setting, or no thread can be started.
    pub(super) fn open(settings: &ClientConfig) -> Result<Admin, KafkaError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        let options = AdminOptions::new()
            .request_timeout(Some(ASK_TIMEOUT))
            .operation_timeout(Some(ASK_TIMEOUT));
        Ok(Admin {
            client: settings.create()?,
            options,
            runtime,
        })
    }

    /// Makes a topic. One that exists already is left as it is.
    ///
    /// # Errors
    /// The broker's code.
    pub(super) fn create(
        &self,
        topic: &str,
        partitions: i32,
        replication: i32,
        settings: &[(&str, &str)],
    ) -> Result<(), Code> {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
        let new = settings
            .iter()
            .fold(new, |new, (name, value)| new.set(name, value));
        match self
            .wait_for(self.client.create_topics([&new], &self.options))?
            .into_iter()
            .next()
        {
            Some(Err((_, code))) if code != Code::TopicAlreadyExists => Err(code),
            _ => Ok(()),
        }
    }

    /// Gives a topic `partitions` partitions, if it has fewer.
    ///
    /// # Errors
    /// The broker's code.
    pub(super) fn grow(&self, topic: &str, partitions: u32) -> Result<(), Code> {
        let new = NewPartitions::new(topic, partitions as usize);
        match self
            .wait_for(self.client.create_partitions([&new], &self.options))?
            .into_iter()
            .next()
        {
            Some(Err((_, code))) => Err(code),
            _ => Ok(()),
        }
    }

    /// A topic's settings.
    ///
    /// # Errors
    /// The broker's code.
    pub(super) fn settings(&self, topic: &str) -> Result<ConfigResource, Code> {
        let asked = [ResourceSpecifier::Topic(topic)];
        let found = self.wait_for(self.client.describe_configs(&asked, &self.options))?;
        found.into_iter().next().unwrap_or(Err(Code::BadMessage))
    }

    fn wait_for<T>(&self, answer: impl Future<Output = Result<T, KafkaError>>) -> Result<T, Code> {
        self.runtime
            .block_on(answer)
            .map_err(|error| error.rdkafka_error_code().unwrap_or(Code::Fail))
    }
}
