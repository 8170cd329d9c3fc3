//! From a handler's signature to its description: each argument says what it reads of a request, the
//! answer says what it looks like.

use super::operation::{Answer, Argument, Operation};

/// A handler that can describe itself. `T` is the tuple by which axum tells arities apart.
#[diagnostic::on_unimplemented(
    message = "this handler cannot be described in the OpenAPI document",
    note = "each argument needs `openapi::Argument`, the answer `openapi::Answer`, and bodies, queries and \
            answers need `schemars::JsonSchema`"
)]
pub(in crate::admin) trait Described<T> {
    fn describe(operation: &mut Operation<'_>);
}

macro_rules! described {
    ($($argument:ident),*) => {
        impl<F, Fut, R, M, $($argument),*> Described<(M, $($argument,)*)> for F
        where
            F: FnOnce($($argument),*) -> Fut,
            Fut: Future<Output = R>,
            R: Answer,
            $($argument: Argument,)*
        {
            fn describe(operation: &mut Operation<'_>) {
                $($argument::describe(operation);)*
                R::describe(operation);
            }
        }
    };
}

described!();
described!(A1);
described!(A1, A2);
described!(A1, A2, A3);
described!(A1, A2, A3, A4);
described!(A1, A2, A3, A4, A5);
described!(A1, A2, A3, A4, A5, A6);
described!(A1, A2, A3, A4, A5, A6, A7);
described!(A1, A2, A3, A4, A5, A6, A7, A8);
