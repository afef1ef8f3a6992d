//! What the tests against real servers share.
