// The chunks of a local file, found at the speed of one reading: where the content is what it was, remembered chunks
// are only verified; it is cut anew only from the first difference to the next place that is known. Blocks.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include <capstan/base/chunker.h>
#include <capstan/base/error.h>
#include <capstan/sync/replica.h>

namespace capstan::sync {

// `known`: the chunks of an earlier content, in its order, or none. The result is the same whatever is known. `path` is
// for errors. A file that ends before `size` is `changed`. Holes are not read. `cancelled` (may be null) ends it early
// (cancelled).
Result<Content::Cut> cutFile(int fd, uint64_t size, const std::vector<Chunk>& known, const std::string& path,
                             const std::atomic<bool>* cancelled = nullptr);

// XXH3-128 of the content, 16 bytes. The same errors.
Result<std::string> digestOfFile(int fd, uint64_t size, const std::string& path,
                                 const std::atomic<bool>* cancelled = nullptr);

}  // namespace capstan::sync
