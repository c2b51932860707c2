#include <capstan/server/compute/content.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include <kj/debug.h>

#include <capstan/server/compute/line-error.h>
#include <capstan/server/compute/newlines.h>

namespace capstan::server::compute {
namespace {

constexpr size_t WRITE_BLOCK = 256 << 10;
// Bytes whose newlines are counted at once: about LINE_INDEX_STEP of the shortest lines, so that looking for the
// next line of the index does not count the same bytes many times over.
constexpr size_t COUNT_BLOCK = 8 << 10;
constexpr size_t READ_BLOCK = 64 << 10;
constexpr size_t INDEX_BLOCK = 1 << 20;
// A number is not written with more bytes than that, but for somebody's joke of leading zeros.
constexpr uint64_t LONGEST_NUMBER = 64 << 10;

// Behind the `count`'th newline, which is there; `count` is at least 1.
const char* afterNewlines(const char* begin, const char* end, uint64_t count) {
  while (end - begin > 256) {
    const char* middle = begin + (end - begin) / 2;
    uint64_t before = countNewlines(begin, middle);
    if (before >= count) {
      end = middle;
    } else {
      count -= before;
      begin = middle;
    }
  }
  for (;; ++begin) {
    if (*begin == '\n' && --count == 0) return begin + 1;
  }
}

Error notOneNumber(std::string what) {
  return {ErrorCode::INVALID_ARGUMENT, "a single number is needed, and this is " + std::move(what), {}};
}

}  // namespace

std::shared_ptr<const Content> Content::ofNumber(const Number& number) {
  auto content = std::make_shared<Content>();
  bool isInt = std::holds_alternative<int64_t>(number);
  content->about = {isInt ? ElementType::INT : ElementType::FLOAT, Encoding::BINARY, 1, BINARY_ELEMENT_BYTES, true};
  content->memory.resize(BINARY_ELEMENT_BYTES);
  std::visit([&](const auto& value) { memcpy(content->memory.data(), &value, BINARY_ELEMENT_BYTES); }, number);
  return content;
}

std::shared_ptr<const Content> Content::ofFile(ContentInfo info, std::unique_ptr<SpoolFile> file) {
  auto content = std::make_shared<Content>();
  content->about = info;
  content->file = std::move(file);
  return content;
}

Result<Number> Content::number() const {
  if (about.type != ElementType::INT && about.type != ElementType::FLOAT) return notOneNumber("text");
  if (about.count != 1) return notOneNumber("a list of " + std::to_string(about.count) + " numbers");
  if (about.bytes > LONGEST_NUMBER) return notOneNumber("a line of " + std::to_string(about.bytes) + " bytes");
  std::string bytes(about.bytes, '\0');
  Result<size_t> read = readAt(0, bytes.data(), bytes.size());
  if (!read) return read.error();
  bool isInt = about.type == ElementType::INT;
  if (about.encoding == Encoding::BINARY) {
    KJ_ASSERT(bytes.size() == BINARY_ELEMENT_BYTES);
    int64_t integer;
    double real;
    memcpy(&integer, bytes.data(), sizeof(integer));
    memcpy(&real, bytes.data(), sizeof(real));
    return isInt ? Number(integer) : Number(real);
  }
  if (bytes.ends_with('\n')) bytes.pop_back();
  if (isInt) {
    if (std::optional<int64_t> value = parseInt(bytes)) return Number(*value);
  } else if (std::optional<double> value = parseFloat(bytes)) {
    return Number(*value);
  }
  return lineError({}, 1, bytes, about.type);
}

Result<size_t> Content::readAt(uint64_t offset, char* to, size_t size) const {
  if (offset >= about.bytes) return size_t(0);
  size_t wanted = size_t(std::min<uint64_t>(size, about.bytes - offset));
  if (!file) {
    memcpy(to, memory.data() + offset, wanted);
    return wanted;
  }
  Result<size_t> read = file->readAt(offset, to, wanted);
  if (read.ok() && *read < wanted) {
    return Error{
        ErrorCode::CORRUPT, "what was computed is damaged: its file is shorter than it was; compute it again", {}};
  }
  return read;
}

Result<uint64_t> Content::offsetOf(uint64_t index) const {
  if (index >= about.count) return about.bytes;
  if (about.encoding == Encoding::BINARY) return index * BINARY_ELEMENT_BYTES;
  Status indexed = makeIndex();
  if (!indexed) return indexed.error();
  // A file that somebody changed may have fewer lines than it had.
  size_t mark = std::min<size_t>(index / LINE_INDEX_STEP, lineIndex.size() - 1);
  uint64_t offset = lineIndex[mark], lines = index - mark * LINE_INDEX_STEP;
  std::string buffer(READ_BLOCK, '\0');
  while (lines > 0) {
    Result<size_t> read = readAt(offset, buffer.data(), buffer.size());
    if (!read) return read.error();
    if (*read == 0) return about.bytes;
    const char *begin = buffer.data(), *end = begin + *read;
    uint64_t newlines = countNewlines(begin, end);
    if (newlines >= lines) return offset + uint64_t(afterNewlines(begin, end, lines) - begin);
    lines -= newlines;
    offset += *read;
  }
  return offset;
}

Status Content::makeIndex() const {
  std::lock_guard lock(indexMutex);
  if (!lineIndex.empty()) return okStatus();
  std::vector<uint64_t> made{0};
  std::string buffer(INDEX_BLOCK, '\0');
  uint64_t untilMark = LINE_INDEX_STEP;
  for (uint64_t offset = 0; offset < about.bytes;) {
    Result<size_t> read = readAt(offset, buffer.data(), buffer.size());
    if (!read) return read.error();
    const char *begin = buffer.data(), *end = begin + *read;
    for (const char* c = begin; c != end;) {
      const char* blockEnd = c + std::min<size_t>(COUNT_BLOCK, size_t(end - c));
      uint64_t found = countNewlines(c, blockEnd);
      if (found < untilMark) {
        untilMark -= found;
        c = blockEnd;
      } else {
        c = afterNewlines(c, blockEnd, untilMark);
        untilMark = LINE_INDEX_STEP;
        made.push_back(offset + uint64_t(c - begin));
      }
    }
    offset += *read;
  }
  lineIndex = std::move(made);
  return okStatus();
}

// The thread that writes owns it.
struct ContentWriter::Impl {
  const ElementType type;
  const Encoding encoding;
  const Spool* const spool;  // null where the file is given
  const std::shared_ptr<SpoolAccount> account;

  SpoolCharge memoryCharge;         // for `buffer`, as long as there is no file
  MemoryShare memoryShare;          // the same
  std::unique_ptr<SpoolFile> file;  // null as long as everything is in memory
  std::string buffer;               // what is not in the file yet
  uint64_t bytes = 0;               // in all
  uint64_t newlines = 0;
  std::vector<uint64_t> lineIndex{0};
  bool lineIsOpen = false;  // the last byte is not a newline
  bool finished = false;
  std::optional<Error> failure;

  Impl(ElementType type, Encoding encoding, const Spool* spool, std::shared_ptr<SpoolAccount> account,
       std::unique_ptr<SpoolFile> file)
      : type(type),
        encoding(encoding == Encoding::UNSET ? Encoding::LINES : encoding),
        spool(spool),
        account(std::move(account)),
        memoryCharge(this->account),
        memoryShare(this->account, 0),
        file(std::move(file)) {}

  void countLines(std::string_view data);
  Status store(std::string_view data);
  Status storeInMemory(std::string_view data);
  Status moveToFile();
  Status writeOut();
  Status checkBinary() const;
  Status close(bool durable);

  Status remember(Status status) {
    if (!status) failure = status.error();
    return status;
  }
};

void ContentWriter::Impl::countLines(std::string_view data) {
  if (data.empty()) return;
  lineIsOpen = data.back() != '\n';
  const char *begin = data.data(), *const end = begin + data.size();
  for (const char* c = begin; c != end;) {
    const char* blockEnd = c + std::min<size_t>(COUNT_BLOCK, size_t(end - c));
    uint64_t found = countNewlines(c, blockEnd), untilMark = LINE_INDEX_STEP - newlines % LINE_INDEX_STEP;
    if (found < untilMark) {
      newlines += found;
      c = blockEnd;
    } else {
      c = afterNewlines(c, blockEnd, untilMark);
      newlines += untilMark;
      lineIndex.push_back(bytes + uint64_t(c - begin));
    }
  }
}

Status ContentWriter::Impl::store(std::string_view data) {
  if (encoding == Encoding::LINES) countLines(data);
  bytes += data.size();
  if (!file) return storeInMemory(data);
  if (buffer.empty() && data.size() >= WRITE_BLOCK) return file->append(data);
  buffer.append(data);
  return buffer.size() >= WRITE_BLOCK ? writeOut() : okStatus();
}

Status ContentWriter::Impl::storeInMemory(std::string_view data) {
  if (bytes > MEMORY_CONTENT_BYTES || !memoryShare.grow(bytes)) {
    Status moved = moveToFile();
    if (!moved) return moved;
    return file->append(data);
  }
  Status covered = memoryCharge.cover(bytes);
  if (covered.ok()) buffer.append(data);
  return covered;
}

Status ContentWriter::Impl::moveToFile() {
  auto made = spool->newFile(account);
  if (!made) return made.error();
  file = std::move(*made);
  memoryCharge.settle(0);  // the file has a charge of its own
  memoryShare = MemoryShare();
  Status written = writeOut();
  buffer.shrink_to_fit();
  return written;
}

Status ContentWriter::Impl::writeOut() {
  Status written = buffer.empty() ? okStatus() : file->append(buffer);
  buffer.clear();
  return written;
}

Status ContentWriter::Impl::checkBinary() const {
  if (encoding != Encoding::BINARY) return okStatus();
  if (type == ElementType::TEXT) return Error{ErrorCode::INVALID_ARGUMENT, "text has no binary form; use lines", {}};
  if (bytes % BINARY_ELEMENT_BYTES == 0) return okStatus();
  return Error{ErrorCode::INVALID_ARGUMENT,
               "binary numbers take 8 bytes each, and " + std::to_string(bytes) + " bytes are no multiple of that",
               {}};
}

Status ContentWriter::Impl::close(bool durable) {
  Status status = checkBinary();
  if (status.ok() && encoding == Encoding::LINES && lineIsOpen) status = store("\n");
  if (!status || !file) return status;
  status = writeOut();
  file->settle();
  return status.ok() && durable ? file->flush() : std::move(status);
}

ContentWriter::ContentWriter(ElementType type, Encoding encoding, const Spool& spool,
                             std::shared_ptr<SpoolAccount> account)
    : impl(std::make_unique<Impl>(type, encoding, &spool, std::move(account), nullptr)) {}

ContentWriter::ContentWriter(ElementType type, Encoding encoding, std::unique_ptr<SpoolFile> file)
    : impl(std::make_unique<Impl>(type, encoding, nullptr, nullptr, std::move(file))) {}

ContentWriter::~ContentWriter() = default;

Status ContentWriter::append(std::string_view bytes) {
  KJ_REQUIRE(!impl->finished, "content is finished");
  if (impl->failure) return *impl->failure;
  return impl->remember(impl->store(bytes));
}

Result<std::shared_ptr<const Content>> ContentWriter::finish(bool single, bool durable) {
  KJ_REQUIRE(!impl->finished, "content is finished");
  if (impl->failure) return *impl->failure;
  Status closed = impl->remember(impl->close(durable));
  if (!closed) return closed.error();
  impl->finished = true;
  auto content = std::make_shared<Content>();
  bool binary = impl->encoding == Encoding::BINARY;
  content->about = {impl->type, impl->encoding, binary ? impl->bytes / BINARY_ELEMENT_BYTES : impl->newlines,
                    impl->bytes, single};
  content->file = std::move(impl->file);
  if (!content->file) {
    impl->memoryCharge.settle(impl->bytes);
    content->memory = std::move(impl->buffer);
    content->memory.shrink_to_fit();
    content->memoryCharge = std::move(impl->memoryCharge);
    content->memoryShare = std::move(impl->memoryShare);
  }
  if (!binary) content->lineIndex = std::move(impl->lineIndex);
  return std::shared_ptr<const Content>(std::move(content));
}

}  // namespace capstan::server::compute
