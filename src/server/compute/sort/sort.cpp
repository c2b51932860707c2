#include <capstan/server/compute/sort/sort.h>

#include <algorithm>
#include <string>
#include <vector>

#include <capstan/server/compute/sort/key-run.h>
#include <capstan/server/compute/sort/line-order.h>
#include <capstan/server/compute/sort/line-run.h>
#include <capstan/server/compute/sort/merge.h>
#include <capstan/server/compute/sort/region.h>

namespace capstan::server::compute {

namespace {

constexpr uint64_t MOST_SORT_MEMORY = uint64_t(1) << 38;  // what packLine() can tell apart
constexpr uint64_t WORTH_THREADS = 1 << 20;               // bytes of input
constexpr size_t LARGEST_CHUNK = 1 << 20;
constexpr size_t LEAST_CHUNK = 4 << 10;
// What a byte of input may need of the region: lines without text have their newline and a pair with its scratch.
constexpr uint64_t MOST_PER_LINE_BYTE = 1 + 2 * sizeof(KeyValue);
constexpr uint64_t MOST_PER_BINARY_BYTE = 2;

Error invalid(std::string sentence) { return {ErrorCode::INVALID_ARGUMENT, std::move(sentence), {}}; }

ElementType keyType(ElementType inputType, const SortOptions& options) {
  return options.type == ElementType::UNSET ? inputType : options.type;
}

ElementType resultType(const Source& source, const SortOptions& options) {
  bool numbers = options.type == ElementType::INT || options.type == ElementType::FLOAT;
  return numbers && options.field == 0 ? options.type : source.type;
}

// One sort, from its source to its result.
class Sorter {
 public:
  Sorter(Source& source, const SortOptions& options, Workspace& workspace, Work& work)
      : source(source),
        options(options),
        workspace(workspace),
        work(work),
        memory(std::clamp(options.memory, LEAST_SORT_MEMORY, MOST_SORT_MEMORY)),
        threads(source.expectedSize() < WORTH_THREADS ? 1 : std::max(1u, workspace.threads)),
        sliceBytes(size_t(std::clamp<uint64_t>(memory / 64, 16 << 10, 512 << 10))),
        order(keyType(source.type, options), options),
        code(order.type, options.descending),
        form(source.encoding == Encoding::BINARY ? KeyForm::ELEMENTS : KeyForm::LINES),
        merger(order, code, form, memory, workspace.spool, workspace.account, work) {}

  Result<std::shared_ptr<const Content>> run();

 private:
  Source& source;
  const SortOptions& options;
  Workspace& workspace;
  Work& work;
  const uint64_t memory;
  const unsigned threads;
  const size_t sliceBytes;
  const LineOrder order;
  const KeyCode code;
  const KeyForm form;
  Merger merger;

  std::unique_ptr<ContentWriter> result;
  std::vector<Run> runs;
  bool spills = false;  // what work.total is for: what goes to disk is written and read once more

  Append toResult() {
    return [this](std::string_view bytes) { return result->append(bytes); };
  }
  // An eighth of the memory is for what is on its way in and out.
  uint64_t regionSize(uint64_t perByte) const;
  // `inMemory`: of the source's bytes, more than this are never sorted in memory alone.
  void expectWork(uint64_t inMemory);
  Status sortBinary();
  Status sortLines();
  Status sortPlainInts(const Region& region, LineReader& reader, bool& done);
  Status sortOtherLines(const Region& region, LineReader& reader);
  template <typename Write>
  Status spill(const Region& region, bool hasLines, size_t longestLine, Write write);
};

uint64_t Sorter::regionSize(uint64_t perByte) const {
  // Pairs are laid out from the region's end.
  auto aligned = [](uint64_t bytes) { return bytes / alignof(KeyValue) * alignof(KeyValue); };
  uint64_t most = memory - memory / 8;
  uint64_t expected = source.expectedSize();
  if (expected == 0 || expected > most / perByte) return aligned(most);
  return aligned(std::min(most, expected * perByte + (64 << 10)));
}

Result<std::shared_ptr<const Content>> Sorter::run() {
  ElementType type = source.encoding == Encoding::BINARY ? source.type : resultType(source, options);
  result = workspace.result
               ? std::make_unique<ContentWriter>(type, source.encoding, std::move(workspace.result))
               : std::make_unique<ContentWriter>(type, source.encoding, workspace.spool, workspace.account);
  Status sorted = source.encoding == Encoding::BINARY ? sortBinary() : sortLines();
  if (sorted.ok() && !runs.empty()) sorted = merger.merge(std::move(runs), toResult());
  if (work.cancelled()) return cancelledError();
  if (!sorted) return sorted.error();
  auto content = result->finish();
  if (content.ok()) work.total = work.done.load();
  return content;
}

void Sorter::expectWork(uint64_t inMemory) {
  spills = source.expectedSize() > inMemory;
  work.total = (spills ? 4 : 2) * source.expectedSize();
}

template <typename Write>
Status Sorter::spill(const Region& region, bool hasLines, size_t longestLine, Write write) {
  if (!spills) work.total += 2 * source.expectedSize();
  spills = true;
  auto file = workspace.spool.newFile(workspace.account);
  if (!file) return file.error();
  Run run{std::move(file.value()), hasLines, longestLine, 0};
  Status written = write([&run](std::string_view bytes) { return run.file->append(bytes); });
  if (!written) return written;
  runs.push_back(std::move(run));
  if (!merger.wantsMerging(runs)) return okStatus();
  region.forget();
  return merger.mergeLatest(runs);
}

Status Sorter::sortBinary() {
  auto region = Region::make(size_t(regionSize(MOST_PER_BINARY_BYTE)));
  if (!region) return region.error();
  KeyRun run(*region, code, options.unique, threads, sliceBytes, work);
  expectWork(run.capacity() * sizeof(int64_t));
  while (true) {
    Status filled = run.fillBinary(source);
    if (!filled) return filled;
    if (!run.sort()) return cancelledError();
    if (run.atEnd() && runs.empty()) return run.write(toResult(), form);
    if (!run.empty()) {
      Status spilled = spill(*region, false, 0, [&](const Append& append) { return run.write(append, KeyForm::KEYS); });
      if (!spilled) return spilled;
    }
    if (run.atEnd()) return okStatus();
  }
}

Status Sorter::sortLines() {
  auto region = Region::make(size_t(regionSize(MOST_PER_LINE_BYTE)));
  if (!region) return region.error();
  size_t longest = size_t(std::min<uint64_t>(LONGEST_LINE, memory / 8));
  // A line of text is in memory with its newline; a plain int is not, and takes less than its text if that is long.
  expectWork(order.type == ElementType::INT && order.field == 0 ? region->size() / sizeof(int64_t) * (MAX_INT_TEXT + 1)
                                                                : region->size());
  LineReader reader(source, work, std::clamp(region->size() / 64, LEAST_CHUNK, LARGEST_CHUNK), longest);
  if (order.type == ElementType::INT && order.field == 0) {
    bool done = false;
    Status sorted = sortPlainInts(*region, reader, done);
    if (!sorted.ok() || done) return sorted;
  }
  return sortOtherLines(*region, reader);
}

// As long as lines are ints as formatInt() writes them, which need no text. `done` if all were.
Status Sorter::sortPlainInts(const Region& region, LineReader& reader, bool& done) {
  KeyRun run(region, code, options.unique, threads, sliceBytes, work);
  do {
    Status filled = run.fillLines(reader);
    if (!filled) return filled;
    done = run.atEnd();
    if (run.empty()) continue;
    if (!run.sort()) return cancelledError();
    if (done && runs.empty()) return run.write(toResult(), form);
    Status spilled = spill(region, false, 0, [&](const Append& append) { return run.write(append, KeyForm::KEYS); });
    if (!spilled) return spilled;
  } while (!done && !run.sawOthers());
  return okStatus();
}

Status Sorter::sortOtherLines(const Region& region, LineReader& reader) {
  LineRun run(region, order, threads, sliceBytes, source.name, work);
  while (!reader.atEnd()) {
    Status filled = run.fill(reader);
    if (!filled) return filled;
    if (run.empty()) continue;
    if (!run.sort()) return cancelledError();
    if (reader.atEnd() && runs.empty()) return run.write(toResult(), false);
    Status spilled =
        spill(region, true, run.longestLine(), [&](const Append& append) { return run.write(append, true); });
    if (!spilled) return spilled;
  }
  return okStatus();
}

}  // namespace

Status checkSort(ElementType inputType, Encoding inputEncoding, const SortOptions& options) {
  if (inputType == ElementType::UNSET) return invalid("what is to be sorted has no type; say int, float or text");
  if (inputEncoding == Encoding::BINARY) {
    if (inputType == ElementType::TEXT) return invalid("text cannot be binary; sort it as lines");
    if (options.field != 0) return invalid("binary input has no fields; sort by whole elements");
    if (keyType(inputType, options) != inputType) {
      return invalid("binary input of type " + std::string(name(inputType)) + " cannot be sorted as " +
                     std::string(name(options.type)));
    }
  }
  if (options.field != 0 && options.separator == '\n') {
    return invalid("fields cannot be separated by newlines, which end the lines");
  }
  return okStatus();
}

Result<std::shared_ptr<const Content>> sortElements(Source& source, const SortOptions& options, Workspace workspace,
                                                    Work& work) {
  Encoding encoding = source.encoding == Encoding::UNSET ? Encoding::LINES : source.encoding;
  source.encoding = encoding;
  Status checked = checkSort(source.type, encoding, options);
  if (!checked) return checked.error();
  return Sorter(source, options, workspace, work).run();
}

}  // namespace capstan::server::compute
