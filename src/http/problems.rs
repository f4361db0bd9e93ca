//! `GET /problems/{slug}`: what a problem's `type` leads to. What it means, and what to do about it.

use std::fmt::Write as _;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::openapi::{POLICY, STYLE, escaped};
use super::pages;
use super::problem::Problem;
use super::route::Routes;
use crate::protocol::problem::ProblemType;

pub(super) fn routes(routes: &mut Routes) {
    routes.get("/problems", all).get("/problems/{slug}", one);
}

async fn all() -> HttpResponse {
    let mut rows = String::new();
    for problem in ProblemType::ALL {
        let (slug, title) = (problem.slug(), escaped(problem.title()));
        let _ = write!(rows, "<tr><td><b>{}</b><td><a href=\"/problems/{slug}\">{title}</a>", problem.status());
    }
    page("Problems", &format!("<p>What an answer above 399 can be, by its <code>type</code>.</p><table>{rows}</table>"))
}

async fn one(slug: web::Path<String>) -> Result<HttpResponse, Problem> {
    let found = ProblemType::ALL.iter().find(|problem| problem.slug() == *slug);
    let problem = found.ok_or_else(|| Problem::new(ProblemType::NotFound, "there is no such problem"))?;
    let body = format!(
        "<p><b>{}</b> <code>{}</code></p><p>{}</p><p><a href=\"/problems\">All problems</a> · <a href=\"/docs\">The API</a></p>",
        problem.status(),
        problem.uri(),
        with_code(problem.advice())
    );
    Ok(page(problem.title(), &body))
}

fn page(title: &str, body: &str) -> HttpResponse {
    let title = escaped(title);
    pages::html(StatusCode::OK, POLICY).body(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title} · permcast</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style><h1>{title}</h1>{body}"
    ))
}

/// Escaped, and what stands between backticks as code.
fn with_code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(n, part)| if n % 2 == 1 { format!("<code>{}</code>", escaped(part)) } else { escaped(part) }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::house::House;
    use super::*;
    use actix_web::test::TestRequest;

    #[actix_web::test]
    async fn each_problem_leads_to_a_page_that_says_what_to_do() {
        let house = House::new().await;
        let index = house.ask(TestRequest::get().uri("/problems")).await.is(200);
        for problem in ProblemType::ALL {
            let answer = house.ask(TestRequest::get().uri(&problem.uri())).await.is(200);
            assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
            let page = answer.body.as_str().unwrap();
            for expected in [&escaped(problem.title()), &with_code(problem.advice()), &problem.status().to_string()] {
                assert!(page.contains(expected), "{expected}: {page}");
            }
            assert!(index.body.as_str().unwrap().contains(&format!("href=\"{}\"", problem.uri())));
        }
        house.ask(TestRequest::get().uri("/problems/none")).await.problem(404, "not-found");
    }

    #[test]
    fn code_is_told_apart_and_nothing_is_markup() {
        assert_eq!(with_code("a `<b>` & c"), "a <code>&lt;b&gt;</code> &amp; c");
    }
}
