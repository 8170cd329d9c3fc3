//! The answer to what is taken on and done afterwards.

use axum::Json as JsonBody;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::openapi::{Answer, Operation};

const STATUS: StatusCode = StatusCode::ACCEPTED;

/// 202, and by what to know it again.
pub(super) struct Later<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Later<T> {
    fn into_response(self) -> Response {
        (STATUS, JsonBody(self.0)).into_response()
    }
}

impl<T: JsonSchema> Answer for Later<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.answer_json::<T>(STATUS.as_u16());
    }
}
