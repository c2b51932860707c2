// The content-defined chunks of a stored file, a page at a time: for File.chunks.
#pragma once

#include <vector>

#include <capstan/base/chunker.h>
#include <capstan/base/entry.h>
#include <capstan/server/files/open-file.h>

namespace capstan::server::files {

inline constexpr uint32_t MAX_CHUNKS = 16384;  // in one answer

struct ChunkPage {
  std::vector<Chunk> chunks;
  bool atEnd = false;
  Entry entry;  // as the file was all the while
};

// From `offset` on, at most `max`, and no more than a thread should read at one go. `changed` if the file's version was
// another one at the end. Blocks.
Result<ChunkPage> readChunks(const OpenFile& file, uint64_t offset, uint32_t max);

}  // namespace capstan::server::files
