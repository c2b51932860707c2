// How the state keeps things in SQLite: keys in the order of trees, what was agreed as a compact record, chunks as an
// array. Pure.
//
// A key is a path with NUL in place of '/', so that comparing bytes compares by components. A record is: the format
// (1 byte, RECORD_FORMAT), the local node, a byte of flags, and of the remote node what the flags do not say is the
// same. Numbers are LEB128, times and identities 8 bytes little-endian, texts their length and bytes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <capstan/base/chunker.h>
#include <capstan/sync/node.h>

namespace capstan::sync {

std::string keyOf(std::string_view path);
void assignPath(std::string& path, std::string_view key);

// The keys below a folder: from `first` on, before `end`. Of "": all.
struct KeyRange {
  std::string first;
  std::string end;
};
KeyRange keysBelow(std::string_view folder);

void encodeAgreed(std::string& record, const Agreed& agreed);
// Into an Agreed whose memory is used again. False if it is no record: the state is damaged.
bool decodeAgreed(Agreed& agreed, std::string_view record);

std::string encodeChunks(const std::vector<Chunk>& chunks);
std::optional<std::vector<Chunk>> decodeChunks(std::string_view bytes);

// The digest of the content that both sides have, where one of them knows it.
const std::string& contentDigest(const Agreed& agreed);

}  // namespace capstan::sync
