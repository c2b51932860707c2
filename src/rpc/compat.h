// Every difference between Cap'n Proto 0.9 (Debian 12) and 1.x (Debian 13, Ubuntu 24.04) that this project meets, in
// one place. Code outside this header is written for both.
#pragma once

#include <capnp/capability.h>
#include <capnp/common.h>

namespace capstan::rpc {

// To be called first in a method whose work may stop when the caller drops its promise, never in a `-> stream` method.
// 1.x wants an annotation in the schema instead, which the compiler of 0.9 does not know: built against 1.x, such a
// method runs to its end.
template <typename Context>
inline void allowCancellation([[maybe_unused]] Context& context) {
#if CAPNP_VERSION < 1000000
  context.allowCancellation();
#endif
}

}  // namespace capstan::rpc
