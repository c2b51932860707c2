// Content-defined chunks: content is cut where its bytes say so, so that equal stretches of two files are cut alike
// wherever they stand. FastCDC (Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data
// Deduplication", USENIX ATC 2016), normalisation level 2. The parameters are part of the protocol: schema/files.capnp,
// chunkGearSeed.
#pragma once

#include <cstdint>
#include <string_view>

#include <capstan/base/digest.h>

namespace capstan {

inline constexpr uint32_t MIN_CHUNK_BYTES = 8 << 10;
inline constexpr uint32_t MEAN_CHUNK_BYTES = 32 << 10;
inline constexpr uint32_t MAX_CHUNK_BYTES = 128 << 10;

// A piece of content: how long it is, and what (XXH3-128 in two halves, as its canonical form has them, big-endian).
struct Chunk {
  uint32_t length = 0;
  uint64_t high = 0;
  uint64_t low = 0;
  bool operator==(const Chunk&) const = default;
};

// The length of the chunk that begins with `bytes`: all of them if they are fewer than MIN_CHUNK_BYTES. The answer is
// final if `bytes` is at least MAX_CHUNK_BYTES long or reaches the end of the content.
size_t chunkLength(std::string_view bytes);

// The chunk that these bytes are, all of them.
Chunk chunkOf(std::string_view bytes);

}  // namespace capstan
