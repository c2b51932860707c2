#include <capstan/rpc/chunks.h>

#include <vector>

#include <kj/debug.h>

namespace capstan::rpc {

namespace {

// As many as are busy in one turn of a loop, usually; beyond that, malloc does.
constexpr size_t MOST_SPARE = 16;

thread_local std::vector<kj::Array<kj::byte>> spare;

}  // namespace

kj::Array<kj::byte> takeChunk() {
  if (spare.empty()) return kj::heapArray<kj::byte>(CHUNK_BYTES);
  auto chunk = kj::mv(spare.back());
  spare.pop_back();
  return chunk;
}

void giveChunk(kj::Array<kj::byte> chunk) {
  KJ_REQUIRE(chunk.size() == 0 || chunk.size() == CHUNK_BYTES, "this is no chunk");
  if (chunk.size() > 0 && spare.size() < MOST_SPARE) spare.push_back(kj::mv(chunk));
}

}  // namespace capstan::rpc
