//! The functions of the host that the SDK's wrappers do not do justice to. The only unsafe code of the filter.

use proxy_wasm::types::MapType;

use crate::headers::{Headers, serialized};

/// Sends a local reply. `details` are what Envoy calls `%RESPONSE_CODE_DETAILS%`; the SDK leaves them out.
pub(crate) fn send_reply(status: u32, headers: &[(&str, &str)], body: &[u8], details: &str) {
    host::send_reply(status, &serialized(headers), body, details);
}

/// All headers of a map. The SDK copies each, and panics on a name that is no text.
pub(crate) fn headers(map: MapType) -> Headers {
    Headers::new(host::map(map))
}

/// Puts these headers in place of all that a map has: one call for what would be one for each.
pub(crate) fn set_headers(map: MapType, headers: &[(&[u8], &[u8])]) {
    host::set_map(map, &serialized(headers));
}

/// Where there is no host, nothing is sent and nothing is there.
#[cfg(not(target_arch = "wasm32"))]
mod host {
    use super::MapType;

    pub(super) const fn send_reply(_status: u32, _headers: &[u8], _body: &[u8], _details: &str) {}

    pub(super) const fn map(_map: MapType) -> Vec<u8> {
        Vec::new()
    }

    pub(super) const fn set_map(_map: MapType, _headers: &[u8]) {}
}

#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "the host's own functions")]
mod host {
    use std::ptr;

    use super::MapType;

    /// Of the ABI's status codes, the one for success.
    const OK: u32 = 0;
    /// No gRPC status.
    const NONE: i32 = -1;

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_len: usize,
            body: *const u8,
            body_len: usize,
            headers: *const u8,
            headers_len: usize,
            grpc_status: i32,
        ) -> u32;
        fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        fn proxy_set_header_map_pairs(map: u32, data: *const u8, size: usize) -> u32;
    }

    pub(super) fn set_map(map: MapType, headers: &[u8]) {
        // SAFETY: the host copies from this slice before it returns, and does not keep the pointer.
        let _ = unsafe { proxy_set_header_map_pairs(map as u32, headers.as_ptr(), headers.len()) };
    }

    pub(super) fn send_reply(status: u32, headers: &[u8], body: &[u8], details: &str) {
        // SAFETY: the host copies from these slices before it returns, and keeps none of the pointers.
        let _ = unsafe {
            proxy_send_local_response(
                status,
                details.as_ptr(),
                details.len(),
                body.as_ptr(),
                body.len(),
                headers.as_ptr(),
                headers.len(),
                NONE,
            )
        };
    }

    pub(super) fn map(map: MapType) -> Vec<u8> {
        let (mut data, mut size) = (ptr::null_mut::<u8>(), 0_usize);
        // SAFETY: the host writes to the two places before it returns, and keeps neither.
        let status = unsafe { proxy_get_header_map_pairs(map as u32, &raw mut data, &raw mut size) };
        if status != OK || data.is_null() {
            return Vec::new();
        }
        // SAFETY: the host got this memory from `proxy_on_memory_allocate`, by which the SDK gives away a `Vec` whose length
        // and capacity are `size`, filled it, and leaves it to us.
        unsafe { Vec::from_raw_parts(data, size, size) }
    }
}
