//! The pages as HTML.

use minijinja::{Environment, Value as Context, context};
use serde::Serialize;
use serde_json::Value;

/// A book of the shop, with the fields of the sample's product list.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Book {
    id: u32,
    title: &'static str,
    #[serde(rename = "descriptionHtml")]
    description: &'static str,
}

/// The shop's books. There is one.
pub(super) fn books() -> [Book; 1] {
    [Book {
        id: 0,
        title: "The Comedy of Errors",
        description: "Twin brothers, parted by a shipwreck as infants, each with a servant who is a twin as well and bears the same name as his brother. When all four end up in Ephesus on the same day, wives, merchants and creditors meet the wrong man every time. It is the shortest of <b>Shakespeare's</b> plays, an early one, and his purest farce.",
    }]
}

/// What the product page shows. What is missing could not be had.
pub(super) struct Product<'a> {
    pub(super) book: &'a Book,
    pub(super) details: Option<&'a Value>,
    pub(super) reviews: Option<&'a Value>,
    pub(super) user: Option<&'a str>,
}

/// The templates, ready for use.
pub(super) struct Pages {
    templates: Environment<'static>,
}

impl Pages {
    pub(super) fn new() -> Self {
        let mut templates = Environment::new();
        let sources = [
            ("base.html", include_str!("../../templates/base.html")),
            ("index.html", include_str!("../../templates/index.html")),
            ("product.html", include_str!("../../templates/product.html")),
        ];
        for (name, source) in sources {
            templates
                .add_template(name, source)
                .expect("the templates are part of the program and tested");
        }
        Self { templates }
    }

    pub(super) fn index(&self) -> String {
        self.render("index.html", context! {})
    }

    pub(super) fn product(&self, product: &Product<'_>) -> String {
        let Product {
            book,
            details,
            reviews,
            user,
        } = product;
        self.render("product.html", context! { book, details, reviews, user })
    }

    fn render(&self, name: &str, context: Context) -> String {
        let page = self
            .templates
            .get_template(name)
            .and_then(|template| template.render(context));
        page.unwrap_or_else(|error| {
            tracing::error!(%error, name, "cannot show a page");
            "<!doctype html><title>Error</title><p>This page cannot be shown.</p>".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn product(details: Option<&Value>, reviews: Option<&Value>, user: Option<&str>) -> String {
        Pages::new().product(&Product {
            book: &books()[0],
            details,
            reviews,
            user,
        })
    }

    fn reviews(rating: Value) -> Value {
        json!({ "id": "0", "podname": "reviews-v9-abc", "clustername": "null",
            "reviews": [{ "reviewer": "Reviewer1", "text": "<i>so</i>", "rating": rating }] })
    }

    #[test]
    fn all_is_shown() {
        let reviews = reviews(json!({ "stars": 4, "color": "red" }));
        let page = product(
            Some(&json!({ "publisher": "PublisherA" })),
            Some(&reviews),
            Some("<jason>"),
        );
        for text in [
            "The Comedy of Errors",
            "PublisherA",
            "reviews-v9-abc",
            "&lt;jason&gt;",
            "&lt;i&gt;so",
        ] {
            assert!(page.contains(text), "{text} in {page}");
        }
        assert!(page.contains("data-color=\"red\"") && page.contains("data-stars=\"4\""));
        assert!(!page.contains("Error fetching"));
    }

    #[test]
    fn what_is_away_is_said() {
        let page = product(None, None, None);
        assert!(page.contains("Error fetching product details"));
        assert!(page.contains("Error fetching product reviews"));
        let reviews = reviews(json!({ "error": "Ratings service is currently unavailable" }));
        let page = product(None, Some(&reviews), None);
        assert!(page.contains("Ratings service is currently unavailable"));
    }

    #[test]
    fn stars_need_a_number_and_versions_without_show_none() {
        let mut plain = reviews(Value::Null);
        plain["reviews"][0]
            .as_object_mut()
            .expect("an object")
            .remove("rating");
        let page = product(None, Some(&plain), None);
        assert!(!page.contains("data-stars="));
        assert!(Pages::new().index().contains("/productpage"));
    }
}
