//! Answers `GET /{{name}}/{who}`.

use dunlin::http::{Json, Problem, Request, RequestExt, StatusCode};
use serde::Serialize;

#[derive(Serialize)]
struct Greeting {
    greeting: String,
}

#[dunlin::http]
fn greet(request: Request<()>) -> Result<Json<Greeting>, Problem> {
    let who: String = request.param("who")?;
    if who.len() > 100 {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "that is a long name"));
    }
    Ok(Json(Greeting { greeting: format!("Hello, {who}!") }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;

    #[test]
    fn everybody_is_greeted() {
        let request = Request::builder().header("dunlin-param-who", "ada").body("").unwrap();
        let response = testing::respond(greet, request);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.body(), br#"{"greeting":"Hello, ada!"}"#);
    }
}
