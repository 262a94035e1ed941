//! httpbin: answers what was asked of it.

mod answers;
mod describe;

use axum::Router;
use axum::routing::{any, delete, get, patch, post, put};

use crate::{Error, serve};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TCP port to listen on
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
}

impl Args {
    pub(crate) async fn run(self) -> Result<(), Error> {
        serve::http(self.port, router()).await
    }
}

fn router() -> Router {
    Router::new()
        .route("/", get(answers::index))
        .route("/get", get(describe::query))
        .route("/post", post(describe::whole))
        .route("/put", put(describe::whole))
        .route("/patch", patch(describe::whole))
        .route("/delete", delete(describe::whole))
        .route("/anything", any(describe::whole))
        .route("/anything/{*rest}", any(describe::whole))
        .route("/headers", get(describe::headers))
        .route("/ip", get(describe::ip))
        .route("/user-agent", get(describe::user_agent))
        .route("/hostname", get(answers::host))
        .route("/status/{codes}", any(answers::status))
        .route("/delay/{seconds}", any(answers::delay))
        .route("/bytes/{n}", get(answers::bytes))
        .route("/stream/{n}", get(answers::stream))
        .route("/redirect/{n}", any(answers::redirect))
        .route("/redirect-to", any(answers::redirect_to))
        .route("/response-headers", get(answers::response_headers))
        .route("/cookies", get(answers::cookies))
        .route("/cookies/set", get(answers::set_cookies))
        .route("/cookies/delete", get(answers::delete_cookies))
        .route("/basic-auth/{user}/{password}", get(answers::basic_auth))
        .route("/bearer", get(answers::bearer))
        .route("/uuid", get(answers::uuid))
        .route("/base64/{value}", get(answers::base64))
        .route("/json", get(answers::json))
        .route("/html", get(answers::html))
        .route("/xml", get(answers::xml))
        .route("/robots.txt", get(answers::robots))
        .route("/deny", get(answers::deny))
}

#[cfg(test)]
mod tests;
