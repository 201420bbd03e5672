//! Shows orders: the query side. It reads what `order-view` keeps, as it is, and waits for nobody.
//!
//! ```text
//! GET /orders?limit=20  some orders
//! GET /orders/{id}      one; 404 until its event was seen, some milliseconds after the 202
//! ```

use dunlin::{
    Value,
    http::{Json, Problem, Request, RequestExt, StatusCode},
    state,
};
use uuid::Uuid;

const LIMIT: usize = 100;

#[dunlin::http]
fn query(request: Request<()>) -> Result<Json<Value>, Problem> {
    let orders = state::shared("order-view");
    if request.uri().path() == "/orders" {
        let limit = request.query("limit")?.unwrap_or(LIMIT).min(LIMIT);
        let ids = orders.keys().take(limit).collect::<Result<Vec<_>, _>>()?;
        return Ok(Json(orders.get_many::<Value>(&ids)?.into_iter().flatten().collect()));
    }
    let id: Uuid = request.param("id")?;
    let order = orders.get(&id.to_string())?;
    order.map(Json).ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format_args!("no order {id} was seen yet")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::{http::Response, testing};
    use serde_json::json;

    fn get(path: &str) -> (StatusCode, Value) {
        let mut request = Request::get(path);
        if let Some(id) = path.strip_prefix("/orders/") {
            request = request.header("dunlin-param-id", id);
        }
        let response: Response<Vec<u8>> = testing::respond(query, request.body("").unwrap());
        (response.status(), serde_json::from_slice(response.body()).unwrap())
    }

    #[test]
    fn orders_are_shown_as_they_are_kept() {
        let ids: Vec<_> = (1..=30).map(|number| Uuid::from_u128(number).to_string()).collect();
        for id in &ids {
            state::shared("order-view").set(id, &json!({ "order": id, "status": "paid" })).unwrap();
        }
        assert_eq!(get(&format!("/orders/{}", ids[6])), (StatusCode::OK, json!({ "order": ids[6], "status": "paid" })));
        assert_eq!(get("/orders").1.as_array().unwrap().len(), 30);
        assert_eq!(get("/orders?limit=25").1.as_array().unwrap().len(), 25);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let (status, problem) = get("/orders/00000000-0000-0000-0000-000000000007");
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(problem["detail"], "no order 00000000-0000-0000-0000-000000000007 was seen yet");
        assert_eq!(get("/orders/seven").0, StatusCode::BAD_REQUEST);
        assert_eq!(get("/orders?limit=all").0, StatusCode::BAD_REQUEST);
        assert_eq!(get("/orders"), (StatusCode::OK, json!([])));
    }
}
