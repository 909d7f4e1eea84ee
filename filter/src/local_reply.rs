//! A local reply with response code details, which the SDK's own call cannot give.

/// Sends it. `details` are what Envoy calls `%RESPONSE_CODE_DETAILS%`.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn send(status: u32, headers: Vec<(&str, &str)>, body: &[u8], _details: &str) {
    let _ = proxy_wasm::hostcalls::send_http_response(status, headers, Some(body));
}

#[cfg(target_arch = "wasm32")]
pub(crate) use host::send;

#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "the host's own function; the SDK's wrapper leaves out the details")]
mod host {
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
    }

    /// Sends it. `details` are what Envoy calls `%RESPONSE_CODE_DETAILS%`.
    pub(crate) fn send(status: u32, headers: Vec<(&str, &str)>, body: &[u8], details: &str) {
        /// No gRPC status.
        const NONE: i32 = -1;
        let headers = serialized(&headers);
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

    /// A map as the ABI has it: count, all lengths, then names and values, each with a zero byte behind it.
    fn serialized(map: &[(&str, &str)]) -> Vec<u8> {
        let length = |text: &str| u32::try_from(text.len()).unwrap_or(0).to_le_bytes();
        let mut out = Vec::new();
        out.extend(u32::try_from(map.len()).unwrap_or(0).to_le_bytes());
        for (name, value) in map {
            out.extend(length(name));
            out.extend(length(value));
        }
        for (name, value) in map {
            for text in [name, value] {
                out.extend(text.as_bytes());
                out.push(0);
            }
        }
        out
    }
}
