//! Programs that users run in containers, for `kubectl exec`.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::FutureExt;

use crate::apiserver::{Command, PodExec, Session};
use crate::container::{ContainerSpec, exec};

/// A container that runs, as long as its specification is held.
#[derive(Debug)]
struct Entry {
    container: String,
    init: i32,
    spec: Weak<ContainerSpec>,
}

/// Containers by namespace and name of their pod.
type Containers = HashMap<(String, String), Vec<Entry>>;

/// Knows the containers that run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Executor {
    pods: Arc<Mutex<Containers>>,
}

impl Executor {
    /// Notes a container, whose first process has pid `init`; it is forgotten when its `spec` goes.
    pub(super) fn enlist(
        &self,
        (namespace, pod): (String, String),
        container: String,
        init: i32,
        spec: &Arc<ContainerSpec>,
    ) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.retain(|_, containers| {
            containers.retain(|entry| entry.spec.strong_count() > 0);
            !containers.is_empty()
        });
        let spec = Arc::downgrade(spec);
        pods.entry((namespace, pod)).or_default().push(Entry {
            container,
            init,
            spec,
        });
    }

    fn find(&self, command: &Command) -> Result<(i32, Arc<ContainerSpec>), String> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (command.namespace.clone(), command.pod.clone());
        let entries = pods.get(&name).map(Vec::as_slice).unwrap_or_default();
        let running: Vec<_> = entries
            .iter()
            .filter_map(|entry| Some((entry, entry.spec.upgrade()?)))
            .collect();
        let chosen = match (&command.container, running.as_slice()) {
            (Some(wanted), _) => running
                .iter()
                .find(|(entry, _)| entry.container == *wanted)
                .ok_or_else(|| format!("container {wanted} of pod {} does not run", command.pod))?,
            (None, [only]) => only,
            (None, []) => return Err(format!("no container of pod {} runs", command.pod)),
            (None, several) => {
                let names: Vec<_> = several.iter().map(|(entry, _)| &*entry.container).collect();
                return Err(format!(
                    "a container name must be specified for pod {}, choose one of: {names:?}",
                    command.pod
                ));
            }
        };
        Ok((chosen.0.init, Arc::clone(&chosen.1)))
    }
}

#[async_trait::async_trait]
impl PodExec for Executor {
    async fn exec(&self, command: Command) -> io::Result<Session> {
        let (init, spec) = self.find(&command).map_err(io::Error::other)?;
        let program = exec::start(init, &spec, command.argv, command.tty).await;
        let mut program = program.map_err(io::Error::other)?;
        Ok(Session {
            stdin: program.stdin,
            stdout: program.stdout,
            stderr: program.stderr,
            resize: program.resize,
            exit: async move {
                let status = program.helper.wait().await?;
                Ok(status.code().unwrap_or(EXIT_UNKNOWN))
            }
            .boxed(),
        })
    }
}

/// What is said of a program whose helper was killed.
const EXIT_UNKNOWN: i32 = 137;

#[cfg(test)]
mod tests {
    use super::*;

    fn command(container: Option<&str>) -> Command {
        Command {
            namespace: "default".into(),
            pod: "web".into(),
            container: container.map(str::to_owned),
            argv: vec!["true".into()],
            tty: false,
        }
    }

    #[test]
    fn containers_are_found_for_as_long_as_they_run() {
        let executor = Executor::default();
        let name = || ("default".to_owned(), "web".to_owned());
        let first = Arc::new(ContainerSpec::default());
        executor.enlist(name(), "app".into(), 7, &first);
        let init = |container| executor.find(&command(container)).map(|(init, _)| init);
        assert_eq!(init(None), Ok(7));
        assert_eq!(init(Some("app")), Ok(7));
        assert!(init(Some("other")).unwrap_err().contains("does not run"));
        let second = Arc::new(ContainerSpec::default());
        executor.enlist(name(), "proxy".into(), 8, &second);
        assert_eq!(init(Some("proxy")), Ok(8));
        assert!(init(None).unwrap_err().contains("[\"app\", \"proxy\"]"));
        drop(first);
        assert_eq!(init(None), Ok(8));
        drop(second);
        assert!(init(None).is_err());
    }
}
