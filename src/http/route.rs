//! The table of routes: what is served where, in one list that the router, 405, OPTIONS and the tests share.

use std::collections::BTreeMap;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Responder, ResponseError as _, Route, web};

use super::problem::Problem;

/// All routes. Each resource adds its own.
#[derive(Default)]
pub struct Routes {
    paths: BTreeMap<&'static str, Vec<(Method, Route)>>,
}

macro_rules! methods {
    ($($name:ident = $method:ident),+) => {$(
        /// Serves this method at a path, whose `{…}` stand for one segment each.
        pub fn $name<F, Args>(&mut self, path: &'static str, handler: F) -> &mut Self
        where
            F: Handler<Args>,
            Args: FromRequest + 'static,
            F::Output: Responder + 'static,
        {
            self.add(path, Method::$method, web::$name().to(handler))
        }
    )+};
}

impl Routes {
    methods!(get = GET, put = PUT, post = POST, patch = PATCH, delete = DELETE);

    fn add(&mut self, path: &'static str, method: Method, route: Route) -> &mut Self {
        self.paths.entry(path).or_default().push((method, route));
        self
    }

    /// What is served: path and method.
    pub fn list(&self) -> Vec<(&'static str, Method)> {
        self.paths.iter().flat_map(|(path, routes)| routes.iter().map(|(method, _)| (*path, method.clone()))).collect()
    }

    /// Hands all routes to the router. The path's other methods are 405, and OPTIONS tells which there are.
    pub fn install(self, cfg: &mut web::ServiceConfig) {
        for (path, routes) in self.paths {
            let mut allow: Vec<String> = routes.iter().map(|(method, _)| method.to_string()).collect();
            if allow.iter().any(|method| method == "GET") {
                allow.push("HEAD".to_owned());
            }
            allow.push("OPTIONS".to_owned());
            let allow = allow.join(", ");
            let resource = routes.into_iter().fold(web::resource(path), |resource, (_, route)| resource.route(route));
            cfg.service(resource.default_service(web::to(move |request: HttpRequest| {
                let allow = allow.clone();
                async move { other_method(&request, allow) }
            })));
        }
        cfg.default_service(web::to(super::pages::page));
    }
}

fn other_method(request: &HttpRequest, allow: String) -> HttpResponse {
    if request.method() == Method::OPTIONS {
        HttpResponse::build(StatusCode::NO_CONTENT).insert_header((header::ALLOW, allow)).finish()
    } else {
        Problem::method_not_allowed(allow).error_response()
    }
}
