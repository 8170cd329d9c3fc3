//! Attacks on what all who use an instance share.

mod platform_connections;
