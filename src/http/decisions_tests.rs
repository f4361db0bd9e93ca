use actix_web::test::TestRequest;
use serde_json::{Value, json};

use super::house::House;

fn question(user: &str, resource: &str, action: &str) -> Value {
    json!({
        "subject": {"type": "user", "id": user},
        "resource": {"type": resource},
        "action": {"name": action},
    })
}

#[actix_web::test]
async fn everybody_may_ask_about_himself_and_checkers_about_others() {
    let house = House::new().await;
    let (ben, kim) = (house.client("ben").await, house.client("kim").await);
    let path = "/access/v1/evaluation";
    let yes = ben.post(path, question("ben", "invoices", "read")).await.is(200).body;
    assert_eq!(yes["decision"], true);
    assert_eq!(yes["context"], json!({"pv": house.services.feed.applied(), "stale": false}));
    let lag = ben.post(path, question("ben", "invoices", "read")).await.is(200).header("permcast-lag").parse::<u64>();
    assert!(lag.is_ok_and(|lag| lag <= 1000), "in milliseconds, and within the bound");
    assert_eq!(ben.post(path, question("ben", "invoices", "edit")).await.is(200).body["decision"], false);
    ben.post(path, question("kim", "invoices", "read")).await.problem(403, "forbidden");
    assert_eq!(kim.post(path, question("ben", "invoices", "read")).await.is(200).body["decision"], true);
    // What is no user and what is no permission is false, not an error.
    for (user, resource) in [("nobody", "invoices"), ("a/b", "invoices"), ("", "invoices"), ("ben", "In*"), ("ben", "")]
    {
        assert_eq!(kim.post(path, question(user, resource, "read")).await.is(200).body["decision"], false);
    }
    kim.post(path, json!({"subject": {"type": "user"}})).await.problem(422, "invalid");
}

#[actix_web::test]
async fn of_another_tenant_operators_alone_may_ask() {
    let house = House::new().await;
    let about = |tenant: &str| {
        let mut question = question("zoe", "permcast", "admin");
        question["subject"]["properties"] = json!({"tenant": tenant});
        question
    };
    let path = "/access/v1/evaluation";
    let (kim, root) = (house.client("kim").await, house.client("root").await);
    let there = kim.post(path, about("acme")).await;
    there.problem(404, "unknown-tenant");
    assert_eq!(there.body, kim.post(path, about("nowhere")).await.body);
    assert_eq!(root.post(path, about("acme")).await.is(200).body["decision"], true);
    assert_eq!(root.post(path, about("nowhere")).await.is(200).body["decision"], false);
    assert_eq!(root.post(path, about("NEVER")).await.is(200).body["decision"], false);
    assert_eq!(root.post(path, about("default")).await.is(200).body["decision"], false, "zoe is another's there");
}

#[actix_web::test]
async fn several_questions_stop_where_their_semantic_says() {
    let house = House::new().await;
    let ben = house.client("ben").await;
    let ask = async |semantic: Option<&str>, resources: &[&str]| -> Vec<bool> {
        let mut body = question("ben", "unused", "read");
        body["evaluations"] = resources.iter().map(|resource| json!({"resource": {"type": resource}})).collect();
        if let Some(semantic) = semantic {
            body["options"] = json!({"evaluations_semantic": semantic});
        }
        let answer = ben.post("/access/v1/evaluations", body).await.is(200).body;
        answer["evaluations"].as_array().unwrap().iter().map(|one| one["decision"].as_bool().unwrap()).collect()
    };
    let (yes, no) = ("invoices", "reports");
    assert_eq!(ask(None, &[yes, no, yes]).await, [true, false, true]);
    assert_eq!(ask(Some("execute_all"), &[no, yes]).await, [false, true]);
    assert_eq!(ask(Some("deny_on_first_deny"), &[yes, no, yes]).await, [true, false]);
    assert_eq!(ask(Some("permit_on_first_permit"), &[no, yes, no]).await, [false, true]);
    let single = ben.post("/access/v1/evaluations", question("ben", "invoices", "read")).await.is(200).body;
    assert_eq!(single["decision"], true);
}

#[actix_web::test]
async fn one_sees_oneself_as_one_stands_now() {
    let house = House::new().await;
    let ben = house.client("ben").await;
    let me = ben.get("/v1/me").await.is(200).body;
    assert_eq!((&me["tenant"], &me["user"]), (&json!("default"), &json!("ben")));
    assert_eq!((&me["roles"], &me["permissions"]), (&json!(["viewer"]), &json!(["invoices:read"])));
    assert_eq!(me["pv"], json!(house.services.feed.applied()));
    assert!(me["session"].is_string());
}

#[actix_web::test]
async fn proxies_ask_for_all_that_the_url_requires() {
    let house = House::new().await;
    let ben = house.client("ben").await;
    let passed = ben.get("/v1/forward-auth?require=invoices:read&require=invoices:read:42").await.is(200);
    assert_eq!((passed.header("permcast-user"), passed.header("permcast-tenant")), ("ben", "default"));
    assert_eq!(passed.header("permcast-version"), house.services.feed.applied().to_string());
    ben.get("/v1/forward-auth?require=invoices:read&require=invoices:edit").await.problem(403, "forbidden");
    for bad in ["", "?require=", "?require=*", "?require=Invoices", "?requires=a"] {
        ben.get(&format!("/v1/forward-auth{bad}")).await.problem(422, "invalid");
    }
    let chosen = ben
        .request(actix_web::http::Method::GET, "/v1/forward-auth?require=invoices:edit")
        .insert_header(("X-Forwarded-Uri", "/?require=invoices:read"))
        .insert_header(("X-Original-URL", "/v1/forward-auth?require=invoices:read"));
    house.ask(chosen).await.problem(403, "forbidden");
    let nobody = house.ask(TestRequest::get().uri("/v1/forward-auth?require=a")).await;
    nobody.problem(401, "unauthenticated");
    assert!(nobody.header("www-authenticate").starts_with("Bearer"));
}

#[actix_web::test]
async fn the_configuration_names_the_endpoints() {
    let house = House::new().await;
    let found = house.ask(TestRequest::get().uri("/.well-known/authzen-configuration")).await.is(200).body;
    assert_eq!(found["access_evaluation_endpoint"], "https://id.example/access/v1/evaluation");
    assert_eq!(found["policy_decision_point"], "https://id.example");
}
