//! 
pub mod mesh;
