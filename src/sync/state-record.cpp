#include <capstan/sync/state-record.h>

#include <algorithm>
#include <cstring>

namespace capstan::sync {

namespace {

constexpr char RECORD_FORMAT = 1;
constexpr size_t CHUNK_BYTES = 4 + 8 + 8;

// In the byte before the remote node.
enum Same : uint8_t { SAME_SIZE = 1, SAME_MTIME = 2, SAME_MODE = 4, SAME_TARGET = 8, SAME_DIGEST = 16 };

constexpr uint8_t TYPE_BITS = 7;
constexpr uint8_t IS_SETTLED = 8;

class Writer {
 public:
  explicit Writer(std::string& out) : out(out) {}

  void byte(uint8_t value) { out += char(value); }
  void number(uint64_t value) {
    for (; value >= 0x80; value >>= 7) out += char(value | 0x80);
    out += char(value);
  }
  template <typename T>
  void fixed(T value) {
    char bytes[sizeof(T)];
    for (size_t i = 0; i < sizeof(T); ++i) bytes[i] = char(uint64_t(value) >> (8 * i));
    out.append(bytes, sizeof(T));
  }
  void text(std::string_view bytes) {
    number(bytes.size());
    out += bytes;
  }

 private:
  std::string& out;
};

// After a failure everything that is read is empty.
class Reader {
 public:
  explicit Reader(std::string_view in) : in(in) {}

  bool atEnd() const { return !failed && in.empty(); }

  uint8_t byte() {
    if (in.empty()) return fail();
    auto value = uint8_t(in.front());
    in.remove_prefix(1);
    return value;
  }
  uint64_t number() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      uint8_t part = byte();
      value |= uint64_t(part & 0x7F) << shift;
      if (part < 0x80) return value;
    }
    return fail();
  }
  template <typename T>
  T fixed() {
    if (in.size() < sizeof(T)) return fail();
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value |= uint64_t(uint8_t(in[i])) << (8 * i);
    in.remove_prefix(sizeof(T));
    return T(value);
  }
  void text(std::string& to) {
    uint64_t size = number();
    if (size > in.size()) size = fail();
    to.assign(in.data(), size);
    in.remove_prefix(size);
  }

 private:
  std::string_view in;
  bool failed = false;

  uint8_t fail() {
    failed = true;
    in = {};
    return 0;
  }
};

void writeType(Writer& writer, const Node& node) {
  writer.byte(uint8_t(uint8_t(node.type) | (node.settled ? IS_SETTLED : 0)));
}

void readType(Reader& reader, Node& node) {
  uint8_t first = reader.byte();
  node.type = EntryType(first & TYPE_BITS);
  node.settled = (first & IS_SETTLED) != 0;
}

void writeLocal(Writer& writer, const Node& node) {
  writeType(writer, node);
  writer.number(node.size);
  writer.fixed(node.mtime);
  writer.number(node.mode);
  writer.text(node.target);
  writer.text(node.digest);
  writer.text(node.stamp);
  writer.fixed(node.identity);
}

void readLocal(Reader& reader, Node& node) {
  readType(reader, node);
  node.size = reader.number();
  node.mtime = reader.fixed<int64_t>();
  node.mode = uint32_t(reader.number());
  reader.text(node.target);
  reader.text(node.digest);
  reader.text(node.stamp);
  node.identity = reader.fixed<uint64_t>();
}

void writeRemote(Writer& writer, const Node& node, const Node& local) {
  uint8_t same = 0;
  if (node.size == local.size) same |= SAME_SIZE;
  if (node.mtime == local.mtime) same |= SAME_MTIME;
  if (node.mode == local.mode) same |= SAME_MODE;
  if (node.target == local.target) same |= SAME_TARGET;
  if (node.digest == local.digest) same |= SAME_DIGEST;
  writer.byte(same);
  writeType(writer, node);
  if (!(same & SAME_SIZE)) writer.number(node.size);
  if (!(same & SAME_MTIME)) writer.fixed(node.mtime);
  if (!(same & SAME_MODE)) writer.number(node.mode);
  if (!(same & SAME_TARGET)) writer.text(node.target);
  if (!(same & SAME_DIGEST)) writer.text(node.digest);
  writer.text(node.stamp);
  writer.fixed(node.identity);
}

void readRemote(Reader& reader, Node& node, const Node& local) {
  uint8_t same = reader.byte();
  readType(reader, node);
  node.size = same & SAME_SIZE ? local.size : reader.number();
  node.mtime = same & SAME_MTIME ? local.mtime : reader.fixed<int64_t>();
  node.mode = same & SAME_MODE ? local.mode : uint32_t(reader.number());
  same& SAME_TARGET ? void(node.target = local.target) : reader.text(node.target);
  same& SAME_DIGEST ? void(node.digest = local.digest) : reader.text(node.digest);
  reader.text(node.stamp);
  node.identity = reader.fixed<uint64_t>();
}

}  // namespace

std::string keyOf(std::string_view path) {
  std::string key(path);
  std::replace(key.begin(), key.end(), '/', '\0');
  return key;
}

void assignPath(std::string& path, std::string_view key) {
  path.assign(key);
  // memchr, not a loop over bytes: this is done for every entry of a tree.
  char* end = path.data() + path.size();
  for (char* at = path.data(); at < end; ++at) {
    at = static_cast<char*>(memchr(at, '\0', size_t(end - at)));
    if (at == nullptr) break;
    *at = '/';
  }
}

KeyRange keysBelow(std::string_view folder) {
  // No key has more bytes than a path, and none begins with so many of 0xFF.
  if (folder.empty()) return {std::string(), std::string(MAX_PATH_BYTES + 1, '\xFF')};
  std::string key = keyOf(folder);
  return {key + '\0', key + '\1'};
}

void encodeAgreed(std::string& record, const Agreed& agreed) {
  record.assign(1, RECORD_FORMAT);
  Writer writer(record);
  writeLocal(writer, agreed.local);
  writeRemote(writer, agreed.remote, agreed.local);
}

bool decodeAgreed(Agreed& agreed, std::string_view record) {
  Reader reader(record);
  if (reader.byte() != uint8_t(RECORD_FORMAT)) return false;
  readLocal(reader, agreed.local);
  readRemote(reader, agreed.remote, agreed.local);
  return reader.atEnd();
}

std::string encodeChunks(const std::vector<Chunk>& chunks) {
  std::string bytes;
  bytes.reserve(chunks.size() * CHUNK_BYTES);
  Writer writer(bytes);
  for (const Chunk& chunk : chunks) {
    writer.fixed(chunk.length);
    writer.fixed(chunk.high);
    writer.fixed(chunk.low);
  }
  return bytes;
}

std::optional<std::vector<Chunk>> decodeChunks(std::string_view bytes) {
  if (bytes.size() % CHUNK_BYTES != 0) return std::nullopt;
  std::vector<Chunk> chunks(bytes.size() / CHUNK_BYTES);
  Reader reader(bytes);
  for (Chunk& chunk : chunks) {
    chunk.length = reader.fixed<uint32_t>();
    chunk.high = reader.fixed<uint64_t>();
    chunk.low = reader.fixed<uint64_t>();
  }
  return chunks;
}

const std::string& contentDigest(const Agreed& agreed) {
  return agreed.local.digest.empty() ? agreed.remote.digest : agreed.local.digest;
}

}  // namespace capstan::sync
