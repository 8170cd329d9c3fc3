//! Attacks by HTTP: what no proper client sends, how slowly, how often, and what a page on another site
//! has a browser send.

mod bodies;
mod browser;
mod floods;
mod listeners;
mod malformed;
mod slow;
mod untaken;
mod wire;
