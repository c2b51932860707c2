// Every difference between Cap'n Proto 0.9 (Debian 12) and 1.x (Debian 13, Ubuntu 24.04) that this project meets, in
// one place. Code outside this header is written for both.
#pragma once

#include <capnp/capability.h>
#include <capnp/common.h>

namespace capstan::rpc {

// To be called first in a method whose work may stop when the caller drops its promise, never in a `-> stream` method.
// In 1.x the same is said by an annotation of the method in the schema, which 0.9 would not know.
template <typename Context>
inline void allowCancellation([[maybe_unused]] Context& context) {
#if CAPNP_VERSION < 1000000
  context.allowCancellation();
#endif
}

}  // namespace capstan::rpc
