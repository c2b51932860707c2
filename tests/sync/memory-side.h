// A side of the synchroniser made of memory: contents that can be fetched and opened, for tests of the other side.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>

#include <capstan/base/digest.h>
#include <capstan/sync/replica.h>

namespace capstan::sync {

inline std::vector<Chunk> chunksIn(std::string_view bytes) {
  std::vector<Chunk> chunks;
  while (!bytes.empty()) {
    size_t length = chunkLength(bytes.substr(0, MAX_CHUNK_BYTES));
    chunks.push_back(chunkOf(bytes.substr(0, length)));
    bytes.remove_prefix(length);
  }
  return chunks;
}

class MemorySide final : public Replica {
 public:
  struct File {
    Node node;
    std::string bytes;
    std::vector<std::pair<uint64_t, uint64_t>> holes;  // offset and length, in order
    bool changesWhileRead = false;
    uint64_t endsAt = UINT64_MAX;  // it was cut off there after it was looked at
  };
  std::map<std::string, File> files;
  uint64_t bytesRead = 0;  // through contents

  Node put(const std::string& path, std::string bytes, int64_t mtime = 1'700'000'000'123'456'789) {
    File& file = files[path];
    file.node.type = EntryType::FILE;
    file.node.size = bytes.size();
    file.node.mtime = mtime;
    file.node.mode = 0640;
    file.node.stamp = "local-" + std::to_string(++counter);
    file.bytes = std::move(bytes);
    file.holes.clear();
    return file.node;
  }

  kj::Promise<Result<Look>> look(const State&, const IgnoreRules&, LookOptions) override {
    return Result<Look>(Look{});
  }
  kj::Promise<Result<std::optional<Node>>> stat(std::string path) override {
    auto found = files.find(path);
    if (found == files.end()) return Result<std::optional<Node>>(std::optional<Node>());
    return Result<std::optional<Node>>(std::optional<Node>(found->second.node));
  }
  kj::Promise<std::vector<Result<std::string>>> digests(std::vector<std::string>) override {
    return std::vector<Result<std::string>>();
  }
  kj::Promise<Result<Fetched>> fetch(std::string path, Node expected) override {
    auto found = files.find(path);
    if (found == files.end() || found->second.node.stamp != expected.stamp || found->second.changesWhileRead)
      return Result<Fetched>(Error{ErrorCode::CHANGED, "it changed", path});
    Fetched fetched{found->second.node, found->second.bytes};
    fetched.node.digest = digestOf(DigestAlgorithm::XXH3, fetched.bytes);
    return Result<Fetched>(std::move(fetched));
  }
  kj::Promise<Result<kj::Own<Content>>> open(std::string path, Node expected) override {
    auto found = files.find(path);
    if (found == files.end() || found->second.node.stamp != expected.stamp)
      return Result<kj::Own<Content>>(Error{ErrorCode::CHANGED, "it changed", path});
    return Result<kj::Own<Content>>(kj::Own<Content>(kj::heap<Opened>(*this, found->second)));
  }
  kj::Promise<std::vector<Result<Done>>> apply(std::vector<Operation>, Replica&, const ApplyOptions&) override {
    return std::vector<Result<Done>>();
  }
  kj::Promise<void> onChange() override { return kj::NEVER_DONE; }
  std::string watching() const override { return "none"; }

 private:
  uint64_t counter = 0;

  class Opened final : public Content {
   public:
    Opened(MemorySide& side, const File& file) : side(side), file(file) {}
    const Node& node() const override { return file.node; }
    kj::Promise<Status> read(uint64_t offset, char* buffer, size_t size) override {
      if (offset + size > std::min<uint64_t>(file.bytes.size(), file.endsAt))
        return Status(Error{ErrorCode::CHANGED, "it is shorter", {}});
      memcpy(buffer, file.bytes.data() + offset, size);
      side.bytesRead += size;
      return okStatus();
    }
    kj::Promise<Result<Extent>> extentAt(uint64_t offset) override {
      for (auto& [begin, length] : file.holes) {
        if (offset < begin) return Result<Extent>(Extent{begin - offset, false});
        if (offset < begin + length) return Result<Extent>(Extent{begin + length - offset, true});
      }
      return Result<Extent>(Extent{file.bytes.size() - offset, false});
    }
    kj::Promise<Result<Cut>> cut(std::vector<Chunk>) override {
      return Result<Cut>(Cut{chunksIn(file.bytes), digestOf(DigestAlgorithm::XXH3, file.bytes)});
    }
    kj::Promise<Status> checkUnchanged() override {
      if (file.changesWhileRead) return Status(Error{ErrorCode::CHANGED, "it changed", {}});
      return okStatus();
    }

   private:
    MemorySide& side;
    const File file;
  };
};

}  // namespace capstan::sync
