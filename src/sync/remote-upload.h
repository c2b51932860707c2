// One large file on its way to the server: only what differs from the content that the server has, where its chunks are
// remembered; resumable, committed with size and digest.
#pragma once

#include <capstan/sync/remote-batch.h>
#include <capstan/sync/remote-place.h>

namespace capstan::sync {

// A stretch of the new content: copied from the old one at the server, or sent.
struct Stretch {
  uint64_t offset = 0;  // in the new content
  uint64_t length = 0;
  std::optional<uint64_t> base;  // where the same bytes are in the old content
};
// How to make a content of these chunks out of one of those. Pure. Stretches are in order and as long as can be.
std::vector<Stretch> stretchesOf(const std::vector<Chunk>& now, const std::vector<Chunk>& base);

// Carries out a PUT. All that it is given must outlive the promise.
kj::Promise<Result<Replica::Done>> uploadRemote(const RemotePlace& place, const Operation& operation, Replica& from,
                                                const Replica::ApplyOptions& options, const RemoteStamps& stamps);

}  // namespace capstan::sync
