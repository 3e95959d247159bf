//! RequestAuthentication as Envoy's filter for tokens.

/// The filter that looks at tokens.
pub const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";
/// Where it leaves what tokens say.
pub const JWT_PAYLOAD: &str = "payload";
