#include <capstan/server/compute/jobs/stored-task.h>

#include <cstring>

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include <capstan/base/digest.h>
#include <capstan/base/text.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/server/compute/jobs/stored-task.capnp.h>
#include <capstan/server/compute/work.h>

namespace capstan::server::compute {

namespace {

using rpc::asData;
using rpc::asView;

constexpr size_t DIGEST_CHUNK_BYTES = 256 << 10;
// Words that may be visited beyond those of the message: readers of a sound one look at nothing twice.
constexpr uint64_t SPARE_WORDS = 1024;

std::string textOf(capnp::Data::Reader data) { return std::string(asView(data)); }

void write(stored::Operand::Builder to, const StoredOperand& operand) {
  if (auto number = std::get_if<Number>(&operand)) {
    if (auto integer = std::get_if<int64_t>(number)) {
      to.setInt(*integer);
    } else {
      to.setFloat(std::get<double>(*number));
    }
  } else if (auto content = std::get_if<InlineContent>(&operand)) {
    auto made = to.initInline();
    made.setType(uint16_t(content->type));
    made.setEncoding(uint16_t(content->encoding));
    made.setBytes(asData(content->bytes));
  } else if (auto file = std::get_if<InputFile>(&operand)) {
    auto made = to.initInputFile();
    made.setName(asData(file->name));
    made.setType(uint16_t(file->info.type));
    made.setEncoding(uint16_t(file->info.encoding));
    made.setCount(file->info.count);
    made.setBytes(file->info.bytes);
    made.setSingle(file->info.single);
  } else {
    auto& served = std::get<ServedInput>(operand);
    auto made = to.initServed();
    made.setPath(asData(served.path));
    made.setVersion(asData(served.version));
    made.setType(uint16_t(served.type));
    made.setEncoding(uint16_t(served.encoding));
    if (!served.top.empty()) made.setTop(asData(served.top));
  }
}

void write(stored::Sort::Builder to, const SortOptions& options) {
  to.setDescending(options.descending);
  to.setUnique(options.unique);
  to.setType(uint16_t(options.type));
  to.setField(options.field);
  if (options.separator) to.getSeparator().setByte(uint8_t(*options.separator));
  to.setMemory(options.memory);
}

void write(stored::Output::Builder to, const StoredOutput& output) {
  to.setPath(asData(output.path));
  switch (output.expectation.kind) {
    case Expectation::Kind::ANY: to.getExpectation().setAny(); break;
    case Expectation::Kind::ABSENT: to.getExpectation().setAbsent(); break;
    case Expectation::Kind::VERSION: to.getExpectation().setVersion(asData(output.expectation.version)); break;
    case Expectation::Kind::IDENTITY: KJ_FAIL_REQUIRE("a job's output has no such expectation");
  }
  if (output.attributes.mode) to.getMode().setSet(*output.attributes.mode);
  if (output.attributes.mtime) to.getMtime().setSet(*output.attributes.mtime);
  to.setMakeParents(output.makeParents);
  to.setEncoding(uint16_t(output.encoding));
  if (!output.top.empty()) to.setTop(asData(output.top));
}

void write(stored::Task::Builder to, const StoredTask& task) {
  to.setKind(uint16_t(task.kind));
  auto operands = to.initOperands(unsigned(task.operands.size()));
  for (unsigned i = 0; i < operands.size(); ++i) write(operands[i], task.operands[i]);
  if (task.kind == JobKind::SORT) write(to.initSort(), task.sort);
  if (task.output) write(to.getOutput().initFile(), *task.output);
  to.setLabel(asData(task.label));
}

Error damaged(std::string_view what) {
  return {ErrorCode::CORRUPT, "a job's task cannot be read from the journal: " + std::string(what), {}};
}

// An enum's number that this version knows; UNSET only where it may be.
template <typename Enum>
bool readEnum(uint16_t number, Enum last, bool mayBeUnset, Enum& to) {
  to = static_cast<Enum>(number);
  return number <= uint16_t(last) && (mayBeUnset || number != 0);
}

bool readKind(uint16_t type, uint16_t encoding, ElementType& toType, Encoding& toEncoding) {
  return readEnum(type, ElementType::TEXT, false, toType) && readEnum(encoding, Encoding::BINARY, false, toEncoding);
}

Result<StoredOperand> read(stored::Operand::Reader from) {
  switch (from.which()) {
    case stored::Operand::INT: return StoredOperand(Number(from.getInt()));
    case stored::Operand::FLOAT: return StoredOperand(Number(from.getFloat()));
    case stored::Operand::INLINE: {
      auto made = from.getInline();
      InlineContent content{{}, {}, textOf(made.getBytes())};
      if (readKind(made.getType(), made.getEncoding(), content.type, content.encoding)) return StoredOperand(content);
      break;
    }
    case stored::Operand::INPUT_FILE: {
      auto made = from.getInputFile();
      InputFile file{textOf(made.getName()), {}};
      file.info.count = made.getCount();
      file.info.bytes = made.getBytes();
      file.info.single = made.getSingle();
      // The name is one in the spool folder and never leads out of it.
      bool sound = !file.name.empty() && file.name.find('/') == std::string::npos;
      if (sound && readKind(made.getType(), made.getEncoding(), file.info.type, file.info.encoding)) {
        return StoredOperand(file);
      }
      break;
    }
    case stored::Operand::SERVED: {
      auto made = from.getServed();
      ServedInput served{textOf(made.getPath()), textOf(made.getVersion()), {}, {}, textOf(made.getTop())};
      if (readKind(made.getType(), made.getEncoding(), served.type, served.encoding)) return StoredOperand(served);
      break;
    }
    case stored::Operand::UNSET: break;
  }
  return damaged("an operand is none that this version knows");
}

Result<SortOptions> read(stored::Sort::Reader from) {
  SortOptions options;
  options.descending = from.getDescending();
  options.unique = from.getUnique();
  options.field = from.getField();
  options.memory = from.getMemory();
  if (from.getSeparator().isByte()) options.separator = char(from.getSeparator().getByte());
  if (!readEnum(from.getType(), ElementType::TEXT, true, options.type)) return damaged("its keys have no known type");
  return options;
}

Result<StoredOutput> read(stored::Output::Reader from) {
  StoredOutput output;
  output.path = textOf(from.getPath());
  output.top = textOf(from.getTop());
  switch (from.getExpectation().which()) {
    case stored::Output::Expectation::ANY: break;
    case stored::Output::Expectation::ABSENT: output.expectation.kind = Expectation::Kind::ABSENT; break;
    case stored::Output::Expectation::VERSION:
      output.expectation = {Expectation::Kind::VERSION, textOf(from.getExpectation().getVersion())};
      break;
    default: return damaged("its output expects something unknown");
  }
  if (from.getMode().isSet()) output.attributes.mode = from.getMode().getSet();
  if (from.getMtime().isSet()) output.attributes.mtime = from.getMtime().getSet();
  output.makeParents = from.getMakeParents();
  if (!readEnum(from.getEncoding(), Encoding::BINARY, true, output.encoding)) {
    return damaged("its output has no known encoding");
  }
  return output;
}

Result<StoredTask> read(stored::Task::Reader from) {
  StoredTask task;
  if (!readEnum(from.getKind(), JobKind::COUNT, false, task.kind)) return damaged("it is of an unknown kind");
  for (auto operand : from.getOperands()) {
    auto made = read(operand);
    if (!made.ok()) return made.error();
    task.operands.push_back(std::move(*made));
  }
  if (!isComplete(task)) return damaged("it has a wrong number of operands");
  if (task.kind == JobKind::SORT) {
    auto options = read(from.getSort());
    if (!options.ok()) return options.error();
    task.sort = *options;
  }
  if (from.getOutput().isFile()) {
    auto output = read(from.getOutput().getFile());
    if (!output.ok()) return output.error();
    task.output = std::move(*output);
  }
  task.label = textOf(from.getLabel());
  return task;
}

Result<std::string> digestOfFile(const std::string& name, const Spool& spool, const std::atomic<bool>& stop) {
  auto file = spool.openFile(name);
  if (!file.ok()) return file.error();
  Hasher hasher(DigestAlgorithm::SHA256);
  std::string chunk(DIGEST_CHUNK_BYTES, '\0');
  uint64_t offset = 0;
  while (true) {
    if (stop) return cancelledError();
    auto size = (*file)->readAt(offset, chunk.data(), chunk.size());
    if (!size.ok()) return size.error();
    if (*size == 0) return hasher.digest();
    hasher.update({chunk.data(), *size});
    offset += *size;
  }
}

}  // namespace

std::string serialize(const StoredTask& task) {
  capnp::MallocMessageBuilder message;
  write(message.initRoot<stored::Task>(), task);
  auto words = capnp::messageToFlatArray(message);
  auto bytes = words.asBytes();
  return std::string(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
}

Result<StoredTask> parseStoredTask(std::string_view bytes) {
  Result<StoredTask> result = damaged("it is cut off");
  auto failure = kj::runCatchingExceptions([&]() {
    auto words = kj::heapArray<capnp::word>(bytes.size() / sizeof(capnp::word));
    if (words.size() == 0 || bytes.size() % sizeof(capnp::word) != 0) return;
    memcpy(words.begin(), bytes.data(), bytes.size());
    capnp::ReaderOptions options;
    options.traversalLimitInWords = words.size() + SPARE_WORDS;
    capnp::FlatArrayMessageReader message(words, options);
    result = read(message.getRoot<stored::Task>());
  });
  // The library's words are about bytes and pointers: of no use to those who read the log.
  if (failure != nullptr) return damaged("its bytes are damaged");
  return result;
}

Result<std::string> fingerprint(const StoredTask& task, const Spool& spool, const std::atomic<bool>& stop) {
  StoredTask essence = task;
  for (auto& operand : essence.operands) {
    if (auto file = std::get_if<InputFile>(&operand)) {
      auto digest = digestOfFile(file->name, spool, stop);
      if (!digest.ok()) return digest.error();
      file->name = toHex(*digest);
    } else if (auto served = std::get_if<ServedInput>(&operand)) {
      served->version.clear();
    }
  }
  // The canonical form leaves out fields at their defaults, so that fields of later versions change nothing.
  capnp::MallocMessageBuilder message;
  auto root = message.initRoot<stored::Task>();
  write(root, essence);
  auto canonical = capnp::canonicalize(root.asReader());
  auto bytes = canonical.asBytes();
  return digestOf(DigestAlgorithm::SHA256, {reinterpret_cast<const char*>(bytes.begin()), bytes.size()});
}

bool isComplete(const StoredTask& task) {
  if (task.kind == JobKind::UNSET) return false;
  return task.kind == JobKind::ADD ? task.operands.size() >= 2 : task.operands.size() == 1;
}

std::vector<std::string> inputFilesOf(const StoredTask& task) {
  std::vector<std::string> names;
  for (auto& operand : task.operands) {
    if (auto file = std::get_if<InputFile>(&operand)) names.push_back(file->name);
  }
  return names;
}

uint64_t inputBytesOf(const StoredTask& task) {
  uint64_t bytes = 0;
  for (auto& operand : task.operands) {
    if (auto file = std::get_if<InputFile>(&operand)) bytes += file->info.bytes;
  }
  return bytes;
}

}  // namespace capstan::server::compute
