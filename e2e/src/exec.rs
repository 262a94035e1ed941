//! Programs in containers, as `kubectl exec` runs them.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::AttachParams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Mesh, PATIENCE};

/// What a program said and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// The reason of a failure, empty after success.
    pub reason: String,
    /// Its exit code, where it is known and not 0.
    pub code: Option<String>,
}

impl Mesh {
    /// Runs a program in a container, with `stdin` as its whole input.
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        argv: &[&str],
        stdin: &str,
    ) -> anyhow::Result<Done> {
        let pods: Api<Pod> = Api::namespaced(self.client().await?, namespace);
        let params = AttachParams::default()
            .container(container)
            .stdin(!stdin.is_empty());
        let session = async {
            let mut attached = pods.exec(pod, argv.iter().copied(), &params).await?;
            if let Some(mut input) = attached.stdin() {
                input.write_all(stdin.as_bytes()).await?;
                input.shutdown().await?;
            }
            let (mut stdout, mut stderr) = (String::new(), String::new());
            let mut out = attached.stdout().context("no standard output")?;
            let mut err = attached.stderr().context("no standard error")?;
            let status = attached.take_status().context("no status")?;
            let (read_out, read_err, status) = tokio::join!(
                out.read_to_string(&mut stdout),
                err.read_to_string(&mut stderr),
                status
            );
            read_out?;
            read_err?;
            let status = status.context("the session ended without a status")?;
            let causes = status.details.unwrap_or_default().causes;
            Ok::<_, anyhow::Error>(Done {
                stdout,
                stderr,
                reason: status.reason.unwrap_or_default(),
                code: causes
                    .unwrap_or_default()
                    .into_iter()
                    .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
                    .and_then(|cause| cause.message),
            })
        };
        tokio::time::timeout(PATIENCE, session)
            .await
            .context("the program did not end")?
    }

    /// What a program prints, which must succeed.
    pub async fn run_in(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        argv: &[&str],
    ) -> anyhow::Result<String> {
        let done = self.exec(namespace, pod, container, argv, "").await?;
        ensure!(done.reason.is_empty(), "{argv:?} in {pod}: {done:?}");
        Ok(done.stdout)
    }
}
