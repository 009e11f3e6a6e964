//! The collector's tasks by name, each told to stop by a deadline.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use transport::Shutdown;

/// Everything that was started and not yet stopped, in order.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: Mutex<Vec<Task>>,
}

#[derive(Debug)]
struct Task {
    name: &'static str,
    stop: watch::Sender<Option<Instant>>,
    task: JoinHandle<()>,
}

impl Tasks {
    /// Starts a task; what it is given tells it until when to end.
    pub(crate) fn start<F>(&self, name: &'static str, body: impl FnOnce(Shutdown) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, shutdown) = watch::channel(None);
        let task = tokio::spawn(body(shutdown));
        self.running().push(Task { name, stop, task });
    }

    /// The tasks that are over although nobody stopped them.
    pub(crate) fn ended(&self) -> Vec<&'static str> {
        self.running().iter().filter(|task| task.task.is_finished()).map(|task| task.name).collect()
    }

    /// Stops one task; returns when it has ended, at the latest at the deadline.
    pub(crate) async fn stop(&self, name: &str, deadline: Instant) {
        let found = {
            let mut running = self.running();
            running.iter().position(|task| task.name == name).map(|index| running.remove(index))
        };
        let Some(mut task) = found else { return };
        task.stop.send_replace(Some(deadline));
        match timeout_at(deadline, &mut task.task).await {
            Ok(Ok(())) => tracing::debug!(task = name, "stopped"),
            Ok(Err(error)) => tracing::error!(task = name, "failed: {error}"),
            Err(_) => {
                task.task.abort();
                tracing::warn!(task = name, "did not stop in time");
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Task>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Tasks;
    use std::time::Duration;
    use tokio::time::Instant;
    use transport::stop_asked;

    #[tokio::test]
    async fn a_task_that_ends_by_itself_is_named_and_one_that_hangs_is_ended() {
        let tasks = Tasks::default();
        tasks.start("good", |mut shutdown| async move {
            stop_asked(&mut shutdown).await;
        });
        tasks.start("hangs", |_shutdown| std::future::pending());
        let (ended, wait) = tokio::sync::oneshot::channel::<()>();
        tasks.start("short", |_shutdown| async move { drop(ended) });
        assert!(wait.await.is_err());
        while tasks.ended() != ["short"] {
            tokio::task::yield_now().await;
        }
        tasks.stop("good", Instant::now() + Duration::from_secs(60)).await;
        tasks.stop("hangs", Instant::now()).await;
        assert_eq!(tasks.ended(), ["short"]);
    }
}
