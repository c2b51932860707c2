#include <capstan/server/compute/elements.h>

#include <algorithm>
#include <cstring>

#include <capstan/base/text.h>
#include <capstan/server/compute/convert.h>
#include <capstan/server/files/served-folder.h>

namespace capstan::server::compute {

namespace {

constexpr size_t TEXT_OVERHEAD_BYTES = 16;  // of each text in a message, besides its bytes

template <typename T>
std::string bytesOf(typename capnp::List<T>::Reader list) {
  std::string bytes(list.size() * sizeof(T), '\0');
  for (uint i = 0; i < list.size(); ++i) {
    T value = list[i];
    memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
  }
  return bytes;
}

Result<LiteralElements> readTexts(capnp::List<capnp::Data>::Reader list) {
  LiteralElements literal{ElementType::TEXT, Encoding::LINES, {}};
  size_t size = 0;
  for (auto text : list) size += text.size() + 1;
  literal.bytes.reserve(size);
  for (uint i = 0; i < list.size(); ++i) {
    auto text = list[i];
    if (text.size() > 0 && memchr(text.begin(), '\n', text.size()) != nullptr) {
      return Error{ErrorCode::INVALID_ARGUMENT,
                   "text number " + std::to_string(i + 1) +
                       " holds a newline, which ends an element here; take it out, or split the text there",
                   {}};
    }
    literal.bytes.append(reinterpret_cast<const char*>(text.begin()), text.size());
    literal.bytes += '\n';
  }
  return literal;
}

template <typename T, typename List>
void fill(List list, const std::string& bytes) {
  for (uint i = 0; i < list.size(); ++i) {
    T value;
    memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    list.set(i, value);
  }
}

Error tooLarge(const ContentInfo& info) {
  return {ErrorCode::TOO_LARGE,
          "the value has " + std::to_string(info.count) + " elements of " + formatSize(info.bytes) +
              ", too much for one message; read it in parts, or stream it",
          {}};
}

// The bytes from offset `from` to element `end`, or nothing if they are more than `limit`.
Result<std::optional<std::string>> bytesBetween(const Content& content, uint64_t from, uint64_t end, size_t limit) {
  auto to = content.offsetOf(end);
  if (!to.ok()) return to.error();
  if (*to - from > limit) return std::optional<std::string>();
  std::string bytes(size_t(*to - from), '\0');
  auto got = content.readAt(from, bytes.data(), bytes.size());
  if (!got.ok()) return got.error();
  return std::optional(std::move(bytes));
}

// Cuts lines into the block, as many as fit.
Status takeLines(ElementBlock& block, std::string_view bytes, size_t limit, uint64_t& taken) {
  size_t used = 0;
  while (!bytes.empty()) {
    size_t length = bytes.find('\n');
    std::string_view line = bytes.substr(0, length);
    used += block.type == ElementType::TEXT ? line.size() + TEXT_OVERHEAD_BYTES : BINARY_ELEMENT_BYTES;
    if (used > limit) break;
    if (block.type == ElementType::TEXT) {
      block.texts.emplace_back(line);
    } else {
      auto status = appendBinary(block.numbers, block.type, line);
      if (!status.ok()) return status;
    }
    ++taken;
    bytes.remove_prefix(length + 1);
  }
  return okStatus();
}

}  // namespace

Result<LiteralElements> readLiteral(schema::Elements::Reader from) {
  switch (from.which()) {
    case schema::Elements::INTS:
      return LiteralElements{ElementType::INT, Encoding::BINARY, bytesOf<int64_t>(from.getInts())};
    case schema::Elements::FLOATS:
      return LiteralElements{ElementType::FLOAT, Encoding::BINARY, bytesOf<double>(from.getFloats())};
    case schema::Elements::TEXTS: return readTexts(from.getTexts());
  }
  return Error{ErrorCode::INVALID_ARGUMENT, "the server does not know elements of this type", {}};
}

size_t sizeOfLiteral(schema::Elements::Reader from) { return size_t(from.totalSize().wordCount * sizeof(capnp::word)); }

Result<ElementBlock> readElements(const Content& content, uint64_t first, uint64_t count) {
  constexpr size_t LIMIT = files::MAX_READ_BYTES;
  const ContentInfo& info = content.info();
  ElementBlock block;
  block.type = info.type;
  first = std::min(first, info.count);
  uint64_t end = count == 0 ? info.count : first + std::min(count, info.count - first);

  auto from = content.offsetOf(first);
  if (!from.ok()) return from.error();
  std::optional<std::string> bytes;
  while (true) {
    auto read = bytesBetween(content, *from, end, LIMIT);
    if (!read.ok()) return read.error();
    bytes = std::move(*read);
    if (bytes.has_value()) break;
    if (count == 0) return tooLarge(info);
    // So many that they may fit, down to one: a longer line than fits into a message can only be streamed.
    if (end - first == 1) return tooLarge(info);
    end = first + (end - first) / 2;
  }
  uint64_t taken = 0;
  if (info.encoding == Encoding::BINARY) {
    taken = end - first;
    block.numbers = std::move(*bytes);
  } else {
    auto status = takeLines(block, *bytes, LIMIT, taken);
    if (!status.ok()) return status.error();
    if (taken < end - first && (count == 0 || taken == 0)) return tooLarge(info);
  }
  block.atEnd = first + taken == info.count;
  return block;
}

void write(schema::Elements::Builder to, const ElementBlock& block) {
  uint count = uint(block.numbers.size() / BINARY_ELEMENT_BYTES);
  switch (block.type) {
    case ElementType::INT: return fill<int64_t>(to.initInts(count), block.numbers);
    case ElementType::FLOAT: return fill<double>(to.initFloats(count), block.numbers);
    default: break;
  }
  auto texts = to.initTexts(uint(block.texts.size()));
  for (uint i = 0; i < texts.size(); ++i) {
    texts.set(i, capnp::Data::Reader(reinterpret_cast<const kj::byte*>(block.texts[i].data()), block.texts[i].size()));
  }
}

void write(schema::ValueInfo::Builder to, const ContentInfo& info) {
  to.setType(static_cast<schema::ElementType>(info.type));
  to.setCount(info.count);
  to.setSingle(info.single);
  to.setEncoding(static_cast<schema::Encoding>(info.encoding));
  to.setBytes(info.bytes);
}

}  // namespace capstan::server::compute
