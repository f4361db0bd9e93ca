//! permcast
