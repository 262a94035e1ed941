//! The page of clusters: what it lets its user do, and whom it refuses.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use lateen_e2e::{Mesh, browser::Browser, eventually, http::Http};
use serde_json::{Value, json};

use super::{alone, block_on};

/// `lateen cluster serve`, ended with this.
struct Served {
    child: Child,
    host: String,
    token: String,
}

impl Served {
    fn start(mesh: &Mesh) -> anyhow::Result<Served> {
        let mut child = Command::new(mesh.binary())
            .args(["cluster", "serve"])
            .env("XDG_STATE_HOME", mesh.state_folder())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("it was piped")?).lines();
        let line = lines.next().context("it ended")??;
        std::thread::spawn(move || lines.for_each(drop));
        let url = line.split_whitespace().last().unwrap_or_default();
        let (host, token) = url
            .trim_start_matches("http://")
            .split_once("/#token=")
            .with_context(|| line.clone())?;
        Ok(Served {
            child,
            host: host.to_owned(),
            token: token.to_owned(),
        })
    }

    fn http(&self) -> anyhow::Result<Http> {
        Ok(Http::new(self.host.parse()?))
    }

    fn url(&self) -> String {
        format!("http://{}/#token={}", self.host, self.token)
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> anyhow::Result<(u16, Value)> {
        let bearer = format!("Bearer {}", self.token);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self.http()?.send(method, path, &headers, &body).await?;
        let value = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
        Ok((answer.status, value))
    }

    /// The row of a cluster, if there is one.
    async fn row(&self, name: &str) -> anyhow::Result<Option<Value>> {
        let (status, answer) = self.ask("GET", "/api/clusters", Value::Null).await?;
        ensure!(status == 200, "{status} {answer}");
        let rows = answer["clusters"].as_array().cloned().unwrap_or_default();
        Ok(rows.into_iter().find(|row| row["name"] == name))
    }

    async fn row_is(&self, name: &str, state: &str) -> anyhow::Result<Value> {
        eventually(&format!("cluster {name} to be {state}"), async || {
            let row = self.row(name).await?.context("no row")?;
            ensure!(row["state"] == state, "{row}");
            Ok(row)
        })
        .await
    }

    async fn gone(&self, name: &str) -> anyhow::Result<()> {
        eventually(&format!("cluster {name} to be gone"), async || {
            let row = self.row(name).await?;
            ensure!(row.is_none(), "{row:?}");
            Ok(())
        })
        .await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn clusters_are_made_and_deleted_by_the_api() -> anyhow::Result<()> {
    let _alone = alone();
    let mesh = Mesh::prepare("api")?;
    let served = Served::start(&mesh)?;
    block_on(async {
        let foreign = [
            ("host", "evil.example"),
            ("authorization", served.token.as_str()),
        ];
        let answer = served
            .http()?
            .send("GET", "/api/clusters", &foreign, "")
            .await?;
        ensure!(answer.status == 421, "{answer:?}");
        let answer = served.http()?.get("/api/clusters").await?;
        ensure!(answer.status == 401, "{answer:?}");

        let new = |pool: &str| json!({"name": mesh.name, "istio": true, "vipPool": pool});
        let few = "10.10.99.140-10.10.99.141";
        let (status, refused) = served.ask("POST", "/api/clusters", new(few)).await?;
        ensure!(
            status == 422 && refused["field"] == "vipPool",
            "{status} {refused}"
        );
        // The command says the same.
        let said = mesh.lateen(&[
            "cluster",
            "create",
            &mesh.name,
            "--istio",
            "--vip-pool",
            few,
        ])?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        let why = refused["error"].as_str().context("a reason")?;
        ensure!(said.contains(why), "{said} does not say {why}");

        let made = new("10.10.99.140-10.10.99.142");
        let (status, answer) = served.ask("POST", "/api/clusters", made.clone()).await?;
        ensure!(status == 202, "{status} {answer}");
        let (status, answer) = served.ask("POST", "/api/clusters", made).await?;
        ensure!(status == 409, "{status} {answer}");
        let row = served.row_is(&mesh.name, "running").await?;
        ensure!(
            row["istio"] == true && row["vipPool"] == "10.10.99.140-10.10.99.142",
            "{row}"
        );
        let path = format!("/api/clusters/{}/checks", mesh.name);
        let (status, checked) = served.ask("GET", &path, Value::Null).await?;
        ensure!(
            status == 200 && checked["passed"] == true,
            "{status} {checked}"
        );
        let text = checked["text"].as_str().unwrap_or_default();
        ensure!(
            text.contains("Virtual addresses") || text.contains("virtual addresses"),
            "{text}"
        );
        let path = "/api/clusters/nonesuch/checks";
        let (status, refused) = served.ask("GET", path, Value::Null).await?;
        ensure!(status == 404, "{status} {refused}");
        let address = row["ingress"].as_str().unwrap_or_default();
        ensure!(address.starts_with("10.10.99.14"), "{row}");

        let path = format!("/api/clusters/{}", mesh.name);
        let (status, answer) = served.ask("DELETE", &path, Value::Null).await?;
        ensure!(status == 202, "{status} {answer}");
        served.gone(&mesh.name).await?;
        let (status, answer) = served.ask("DELETE", &path, Value::Null).await?;
        ensure!(status == 404, "{status} {answer}");
        Ok(())
    })
}

#[test]
fn clusters_are_made_and_deleted_on_the_page() -> anyhow::Result<()> {
    let _alone = alone();
    if !Browser::is_here() {
        eprintln!("chromium is not on this machine, the page is not looked at");
        return Ok(());
    }
    let mesh = Mesh::prepare("page")?;
    let served = Served::start(&mesh)?;
    block_on(async {
        let mut browser = Browser::open(&served.url()).await?;
        let look = "document.getElementById('vipPool')?.value ?? ''";
        shows(&mut browser, look, "10.10.99.140-10.10.99.150").await?;
        // The token is in no address that the browser keeps.
        ensure!(browser.eval("location.hash").await? == "");
        fill(&mut browser, &mesh.name, "10.10.99.140-10.10.99.141", true).await?;
        let fault = "document.getElementById('vipPool-fault').textContent";
        shows(&mut browser, fault, "a cluster with Istio needs at least 3").await?;
        let invalid = "document.getElementById('vipPool').getAttribute('aria-invalid') ?? ''";
        ensure!(browser.eval(invalid).await? == "true");
        ensure!(served.row(&mesh.name).await?.is_none());

        fill(&mut browser, &mesh.name, "10.10.99.140-10.10.99.150", false).await?;
        let row = "document.getElementById('rows').textContent";
        shows(&mut browser, row, &mesh.name).await?;
        served.row_is(&mesh.name, "running").await?;
        shows(&mut browser, row, "running").await?;
        browser
            .eval("document.querySelector('#rows button').click()")
            .await?;
        let question = "document.getElementById('sure').open ? document.getElementById('sure-text').textContent : ''";
        shows(&mut browser, question, &mesh.name).await?;
        browser
            .eval("document.querySelector('#sure button[value=yes]').click()")
            .await?;
        served.gone(&mesh.name).await?;
        shows(
            &mut browser,
            "document.getElementById('news').textContent",
            "is deleted",
        )
        .await
    })
}

/// Fills the form in and sends it.
async fn fill(browser: &mut Browser, name: &str, pool: &str, istio: bool) -> anyhow::Result<()> {
    let script = format!(
        "document.getElementById('name').value = {name:?};
         document.getElementById('vipPool').value = {pool:?};
         document.getElementById('istio').checked = {istio};
         document.getElementById('new').requestSubmit();"
    );
    browser.eval(&script).await.map(drop)
}

/// Waits until what a script comes to has this part.
async fn shows(browser: &mut Browser, script: &str, part: &str) -> anyhow::Result<()> {
    let start = std::time::Instant::now();
    loop {
        let text = browser.eval(script).await?;
        if text.as_str().unwrap_or_default().contains(part) {
            return Ok(());
        }
        ensure!(
            start.elapsed() < lateen_e2e::PATIENCE,
            "{script} is {text}, not {part}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
