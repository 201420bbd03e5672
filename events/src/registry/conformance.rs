//! The suite every registry must pass.
