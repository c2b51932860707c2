#include <capstan/server/compute/sort/merge.h>

#include <algorithm>
#include <iterator>
#include <string>

#include <capstan/server/compute/sort/loser-tree.h>

namespace capstan::server::compute {

namespace {

constexpr size_t LEAST_BUFFER = 64 << 10;
constexpr size_t LARGEST_BUFFER = 1 << 20;
constexpr size_t MOST_RUNS = 64;  // merged at once

// The last ones that have come through the same number of merges.
size_t latest(const std::vector<Run>& runs) {
  size_t count = 0;
  while (count < runs.size() && runs[runs.size() - 1 - count].level == runs.back().level) ++count;
  return count;
}

uint64_t bytesOf(const std::vector<Run>& runs) {
  uint64_t sum = 0;
  for (auto& run : runs) sum += run.file->size();
  return sum;
}

}  // namespace

// Collects what is merged, in the form that is wanted, and passes it on in large pieces.
class Merger::Output {
 public:
  Output(const Merger& merger, size_t size, bool asRun, const Append& append)
      : merger(merger), asRun(asRun), headers(LineRun::hasHeaders(merger.order)), size(size), append(append) {
    bytes.reserve(size + LEAST_BUFFER);
  }

  void putLine(RunCursor& cursor) {
    std::string_view line = cursor.line();
    if (asRun) {
      LineHeader header{cursor.key(), uint32_t(line.size())};
      if (headers) put(&header, sizeof(header));
      if (!headers) put(&header.length, sizeof(header.length));
    }
    bytes.append(line);
    if (!asRun) bytes.push_back('\n');
  }
  void putKey(RunCursor& cursor) {
    int64_t key = cursor.signedKey();
    if (!asRun) merger.code.decode({&key, 1});
    if (asRun || merger.form != KeyForm::LINES) return put(&key, sizeof(key));
    char text[MAX_INT_TEXT + 1];
    char* end = formatInt(key, text);
    *end++ = '\n';
    bytes.append(text, size_t(end - text));
  }
  bool isFull() const { return bytes.size() >= size; }
  Status flush() {
    if (merger.work.cancelled()) return cancelledError();
    Status appended = append(bytes);
    merger.work.advance(bytes.size());
    bytes.clear();
    return appended;
  }

 private:
  const Merger& merger;
  const bool asRun;
  const bool headers;
  const size_t size;
  const Append& append;
  std::string bytes;

  void put(const void* data, size_t length) { bytes.append(static_cast<const char*>(data), length); }
};

size_t Merger::bufferBytes(const std::vector<Run>& runs) const {
  size_t longest = 0;
  for (auto& run : runs) longest = std::max(longest, run.longestLine);
  size_t wanted = std::clamp<size_t>(size_t(memory / MOST_RUNS), LEAST_BUFFER, LARGEST_BUFFER);
  return std::max(wanted, longest + sizeof(LineHeader));
}

size_t Merger::fanIn(const std::vector<Run>& runs) const {
  // Two buffers' worth is for the output.
  size_t buffers = size_t(memory / bufferBytes(runs));
  return std::clamp<size_t>(buffers, 4, MOST_RUNS + 2) - 2;
}

bool Merger::wantsMerging(const std::vector<Run>& runs) const { return latest(runs) >= fanIn(runs); }

Status Merger::mergeLatest(std::vector<Run>& runs) {
  while (wantsMerging(runs)) {
    size_t left = runs.size() - latest(runs);
    std::vector<Run> group(std::make_move_iterator(runs.begin() + ptrdiff_t(left)),
                           std::make_move_iterator(runs.end()));
    runs.resize(left);
    auto merged = mergeToRun(std::move(group));
    if (!merged) return merged.error();
    runs.push_back(std::move(merged.value()));
  }
  return okStatus();
}

Status Merger::merge(std::vector<Run> runs, const Append& append) {
  // The latest runs are the smallest ones.
  while (runs.size() > fanIn(runs)) {
    size_t count = std::min(fanIn(runs), runs.size() - fanIn(runs) + 1), left = runs.size() - count;
    std::vector<Run> group(std::make_move_iterator(runs.begin() + ptrdiff_t(left)),
                           std::make_move_iterator(runs.end()));
    runs.resize(left);
    auto merged = mergeToRun(std::move(group));
    if (!merged) return merged.error();
    runs.push_back(std::move(merged.value()));
  }
  return mergeOnce(runs, bufferBytes(runs), false, append);
}

Result<Run> Merger::mergeToRun(std::vector<Run> runs) {
  work.total += 2 * bytesOf(runs);
  auto file = spool.newFile(account);
  if (!file) return file.error();
  Run result{std::move(file.value()), false, 0, runs.back().level + 1};
  for (auto& run : runs) {
    result.hasLines |= run.hasLines;
    result.longestLine = std::max(result.longestLine, run.longestLine);
  }
  Status merged =
      mergeOnce(runs, bufferBytes(runs), true, [&](std::string_view bytes) { return result.file->append(bytes); });
  if (!merged) return merged.error();
  return result;
}

Status Merger::mergeOnce(const std::vector<Run>& runs, size_t buffer, bool asRun, const Append& append) {
  std::vector<RunCursor> cursors;
  cursors.reserve(runs.size());
  bool lines = false;
  for (auto& run : runs) {
    lines |= run.hasLines;
    auto& cursor = cursors.emplace_back(run, order, buffer, work);
    if (!cursor.next() && cursor.error()) return *cursor.error();
  }
  Output output(*this, buffer, asRun, append);
  return lines ? mergeCursors<true>(cursors, output) : mergeCursors<false>(cursors, output);
}

template <bool LINES>
Status Merger::mergeCursors(std::vector<RunCursor>& cursors, Output& output) {
  auto isLess = [&](size_t i, size_t k) {
    RunCursor &a = cursors[i], &b = cursors[k];
    if (a.ended() || b.ended()) return !a.ended();
    if (a.key() != b.key()) return a.key() < b.key();
    if constexpr (LINES) {
      // Comparing long lines takes milliseconds. When it was stopped nobody cares for the order any more; the end comes
      // with the next piece that is read or written.
      if (work.cancelled()) return i < k;
      int result = order.compareTies(a.line(), b.line());
      if (result != 0) return result < 0;
    }
    return i < k;
  };
  LoserTree tree(cursors.size(), isLess);
  bool any = false;
  uint64_t lastKey = 0;
  std::string lastLine;  // only with `unique`
  while (!cursors[tree.winner()].ended()) {
    RunCursor& cursor = cursors[tree.winner()];
    bool repeated = order.unique && any && cursor.key() == lastKey;
    if constexpr (LINES) repeated = repeated && order.compareTies(cursor.line(), lastLine) == 0;
    if (!repeated) {
      if constexpr (LINES) output.putLine(cursor);
      if constexpr (!LINES) output.putKey(cursor);
      if (order.unique) {
        any = true;
        lastKey = cursor.key();
        if constexpr (LINES) lastLine.assign(cursor.line());
      }
    }
    if (output.isFull()) {
      Status flushed = output.flush();
      if (!flushed) return flushed;
    }
    if (!cursor.next() && cursor.error()) return *cursor.error();
    tree.replay();
  }
  return output.flush();
}

}  // namespace capstan::server::compute
