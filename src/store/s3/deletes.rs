//! Deletes. Those that wait for a connection at the same time go in one request (`DeleteObjects`); one that need not wait
//! goes alone. So does, once more, whatever the service does not say it has done: the answer to it alone says why.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::delete_objects::DeleteObjectsOutput;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use super::fault::{self, Fault};
use super::sse::with_content_md5;
use super::{S3Store, WAIT};
use crate::Error;

/// So many go in one request. A service takes 1,000, but all of them wait until the last is done.
const MOST: usize = 100;

/// What is to be deleted.
#[derive(Clone, Debug)]
pub(super) struct Unwanted {
    pub(super) key: String,
    /// The name of the version, where there are versions.
    pub(super) version_id: Option<String>,
}

/// Deletes that wait for a connection.
#[derive(Debug, Default)]
pub(super) struct Deletes {
    queue: Mutex<Queue>,
    /// The service does not take many in one request.
    refused: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    counter: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    unwanted: Unwanted,
    ended: oneshot::Sender<Ended>,
}

/// How it ended for one of them.
#[derive(Clone, Debug)]
enum Ended {
    Deleted,
    Failed(Fault),
    /// Nobody says that it is done.
    Open,
}

impl S3Store {
    /// Deletes what has the name, alone or with others.
    pub(super) async fn delete_one(&self, unwanted: &Unwanted) -> Result<(), Fault> {
        let client = self.client().await.map_err(|error| Fault::of(&error))?;
        let (deletes, permits) = (&self.shared.deletes, &self.shared.permits);
        if deletes.may_share(unwanted) {
            let (number, mut ended) = deletes.wait(unwanted);
            let ended = match select(&mut ended, pin!(permits.acquire())).await {
                Either::Left((ended, _)) => ended,
                Either::Right((permit, _)) => {
                    match deletes.take(number) {
                        Some(all) => self.delete_all(client, all).await,
                        // It went with others, who need no connection of ours.
                        None => drop(permit),
                    }
                    ended.await
                }
            };
            match ended {
                Ok(Ended::Deleted) => return Ok(()),
                Ok(Ended::Failed(fault)) => return Err(fault),
                // Whoever took it along has stopped, and it may be done or not.
                Ok(Ended::Open) | Err(_) => {}
            }
        }
        let _permit = permits.acquire().await;
        self.delete_alone(client, unwanted).await
    }

    /// Sends what was taken, and tells each how it ended.
    async fn delete_all(&self, client: &Client, all: Vec<Waiting>) {
        if let [only] = &*all {
            let ended = self
                .delete_alone(client, &only.unwanted)
                .await
                .map_or_else(Ended::Failed, |()| Ended::Deleted);
            return tell(all, |_| ended.clone());
        }
        match self.delete_many(client, &all).await {
            Ok(answer) => {
                let deleted: HashSet<_> = deleted(&answer).collect();
                tell(all, |unwanted| {
                    match deleted.contains(&(&*unwanted.key, unwanted.version_id.as_deref())) {
                        true => Ended::Deleted,
                        false => Ended::Open,
                    }
                });
            }
            // Whoever does not have it, or may not do it in this way, is asked in the other, and says why not.
            Err(fault) if fault.is_unknown_there() || fault.is_refused() => {
                self.shared.deletes.refused.store(true, Ordering::Relaxed);
                tell(all, |_| Ended::Open);
            }
            Err(fault) => tell(all, |_| Ended::Failed(fault.clone())),
        }
    }

    async fn delete_alone(&self, client: &Client, unwanted: &Unwanted) -> Result<(), Fault> {
        let request = client
            .delete_object()
            .bucket(self.bucket_name())
            .key(&unwanted.key)
            .set_version_id(unwanted.version_id.clone());
        fault::answer(WAIT, request.send()).await.map(drop)
    }

    async fn delete_many(&self, client: &Client, all: &[Waiting]) -> Result<DeleteObjectsOutput, Fault> {
        let object = |Waiting { unwanted, .. }: &Waiting| {
            let object = ObjectIdentifier::builder().key(&unwanted.key);
            object.set_version_id(unwanted.version_id.clone()).build()
        };
        let objects = all.iter().map(object).collect::<Result<Vec<_>, _>>();
        let delete = objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).build());
        let delete = delete.map_err(|error| Fault::of(&Error::input(error.to_string())))?;
        let request = client.delete_objects().bucket(self.bucket_name()).delete(delete);
        fault::answer(WAIT, request.customize().mutate_request(with_content_md5).send()).await
    }
}

impl Deletes {
    /// Whether it may go with others: XML cannot hold every name.
    fn may_share(&self, unwanted: &Unwanted) -> bool {
        let is_text = |char: char| char >= ' ' && !matches!(char, '\u{fffe}' | '\u{ffff}');
        !self.refused.load(Ordering::Relaxed) && unwanted.key.chars().all(is_text)
    }

    fn wait(&self, unwanted: &Unwanted) -> (u64, oneshot::Receiver<Ended>) {
        let (ended, told) = oneshot::channel();
        let mut queue = self.queue();
        queue.counter += 1;
        let number = queue.counter;
        queue.waiting.push(Waiting { number, unwanted: unwanted.clone(), ended });
        (number, told)
    }

    /// The one of this number and those that wait with it; nothing when somebody else has taken it along.
    fn take(&self, number: u64) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        // Whoever does not wait any more wants nothing deleted.
        queue.waiting.retain(|waiting| !waiting.ended.is_closed());
        let place = queue.waiting.iter().position(|waiting| waiting.number == number)?;
        queue.waiting.swap(0, place);
        let rest = queue.waiting.len().min(MOST);
        let rest = queue.waiting.split_off(rest);
        Some(std::mem::replace(&mut queue.waiting, rest))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(all: Vec<Waiting>, ended: impl Fn(&Unwanted) -> Ended) {
    for waiting in all {
        // Nobody may be there to hear it.
        let _ = waiting.ended.send(ended(&waiting.unwanted));
    }
}

/// What an answer says is deleted.
fn deleted(answer: &DeleteObjectsOutput) -> impl Iterator<Item = (&str, Option<&str>)> {
    answer.deleted().iter().filter_map(|deleted| Some((deleted.key()?, deleted.version_id())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwanted(number: usize) -> Unwanted {
        Unwanted { key: format!("k{number}"), version_id: Some(format!("v{number}")) }
    }

    fn keys(all: &[Waiting]) -> Vec<&str> {
        all.iter().map(|waiting| &*waiting.unwanted.key).collect()
    }

    #[test]
    fn one_takes_those_along_that_wait() {
        let deletes = Deletes::default();
        let mut waiting: Vec<_> = (0..4).map(|number| deletes.wait(&unwanted(number))).collect();
        // One of them gives up.
        let (given_up, _) = waiting.remove(1);
        let taken = deletes.take(waiting[1].0).unwrap();
        assert_eq!(keys(&taken), ["k2", "k0", "k3"][..], "its own first");
        assert!(
            deletes.take(given_up).is_none() && deletes.take(waiting[0].0).is_none(),
            "nothing goes twice"
        );
        tell(taken, |unwanted| if unwanted.key == "k0" { Ended::Open } else { Ended::Deleted });
        let ended: Vec<_> = waiting.iter_mut().map(|(_, told)| told.try_recv().unwrap()).collect();
        assert!(matches!(&ended[..], [Ended::Open, Ended::Deleted, Ended::Deleted]), "{ended:?}");
    }

    #[test]
    fn not_more_go_than_a_request_takes() {
        let deletes = Deletes::default();
        let waiting: Vec<_> = (0..MOST + 7).map(|number| deletes.wait(&unwanted(number))).collect();
        let taken = deletes.take(waiting[MOST + 3].0).unwrap();
        assert_eq!((taken.len(), keys(&taken)[0]), (MOST, &*format!("k{}", MOST + 3)));
        assert_eq!(deletes.take(waiting[0].0).map(|rest| rest.len()), Some(7));
    }

    #[test]
    fn names_that_xml_cannot_hold_go_alone() {
        let deletes = Deletes::default();
        let named = |key: &str| Unwanted { key: key.into(), version_id: None };
        for (key, may) in [("a/b &<>\"'é", true), ("a\u{1}", false), ("a\nb", false), ("\u{ffff}", false)] {
            assert_eq!(deletes.may_share(&named(key)), may, "{key:?}");
        }
    }
}
