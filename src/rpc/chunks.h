// Buffers of one size, shared by all connections of a thread: each needs them while it is busy, and most are idle. A
// buffer that stayed with its connection would be more than all else that an idle connection takes.
#pragma once

#include <kj/array.h>

namespace capstan::rpc {

inline constexpr size_t CHUNK_BYTES = 64 << 10;

// CHUNK_BYTES of memory, of no particular content.
kj::Array<kj::byte> takeChunk();

// Gives one back, on the thread that goes on with it; an empty array is none.
void giveChunk(kj::Array<kj::byte> chunk);

}  // namespace capstan::rpc
