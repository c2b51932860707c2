// What is in the trash, a page at a time: the displaced things of a run in the order in which they were, folders with
// all that is in them.
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include <capstan/base/number.h>
#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/storage/beneath.h>
#include <capstan/storage/replace.h>
#include <capstan/storage/trash-impl.h>

namespace capstan::storage {

namespace {

constexpr int OPEN_FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr size_t MAX_DEPTH = 100;  // each level holds a descriptor; what is deeper is not listed

// Where a page begins: so many items into what one record displaced.
struct Cursor {
  std::string run;  // name of its folder; empty: the first
  size_t record = 0;
  size_t items = 0;

  static Cursor parse(const std::string& text) {
    Cursor cursor;
    size_t first = text.find(':'), second = text.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) return cursor;
    cursor.run = text.substr(0, first);
    cursor.record = size_t(strtoull(text.c_str() + first + 1, nullptr, 10));
    cursor.items = size_t(strtoull(text.c_str() + second + 1, nullptr, 10));
    return cursor;
  }
  std::string toText() const { return run + ":" + std::to_string(record) + ":" + std::to_string(items); }
};

// Fills a page with the items of one record after the other.
class Filling {
 public:
  Filling(std::string below, const std::string& top, size_t max) : below(std::move(below)), top(top), max(max) {}

  // False when the page is full; `position` is where to go on then.
  bool add(int files, const RunRecord& record, const std::string& run, size_t skipped) {
    this->run = run;
    displaced = record.time;
    skip = skipped;
    position = 0;
    return visit(files, std::to_string(record.number), record.path, 0);
  }

  std::vector<TrashedItem> items;
  size_t position = 0;

 private:
  bool visit(int folder, const std::string& name, const std::string& path, size_t depth) {
    bool matches = isWithin(path, below);
    if (!matches && !isWithin(below, path)) return true;
    struct stat status;
    if (fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) return true;  // restored meanwhile
    if (matches && !take(folder, name, path)) return false;
    if (!S_ISDIR(status.st_mode) || depth == MAX_DEPTH) return true;
    kj::AutoCloseFd inner(openat(folder, name.c_str(), OPEN_FOLDER));
    DIR* dir = inner.get() < 0 ? nullptr : fdopendir(dup(inner));
    if (dir == nullptr) return true;
    std::vector<std::string> names;
    while (dirent* entry = readdir(dir)) names.push_back(entry->d_name);
    closedir(dir);
    std::sort(names.begin(), names.end());
    for (const std::string& child : names) {
      if (child == "." || child == "..") continue;
      if (!visit(inner, child, joinPath(path, child), depth + 1)) return false;
    }
    return true;
  }

  bool take(int folder, const std::string& name, const std::string& path) {
    if (items.size() == max) return false;
    if (position++ < skip) return true;
    auto entry = entryAt(folder, name, pathBeneath(path, top));
    if (entry.ok()) items.push_back({*fromHex(run), std::move(*entry), displaced});
    return true;
  }

  const std::string below;
  const std::string& top;  // to which what is answered is relative
  const size_t max;
  std::string run;
  int64_t displaced = 0;
  size_t skip = 0;
};

}  // namespace

Result<Trash::Page> TrashImpl::list(const std::string& run, const std::string& path, const std::string& cursorText,
                                    size_t max, const RunScope& scope) {
  Status valid = validatePath(path);
  if (!valid.ok()) return valid.error();
  auto names = select(run, scope);
  if (!names.ok()) return names.error();
  Cursor cursor = Cursor::parse(cursorText);
  auto start = std::find(names->begin(), names->end(), cursor.run);
  // A run that has been deleted since takes its place in the order with it: the page begins anew.
  if (start == names->end()) {
    cursor = Cursor();
    start = names->begin();
  }
  Filling filling(joinPath(scope.top, path), scope.top, std::max<size_t>(max, 1));
  Page page;
  for (auto name = start; name != names->end(); ++name) {
    auto opened = openRun(*name, scope);
    if (!opened.ok() && !run.empty()) return opened.error();
    if (!opened.ok()) continue;
    for (size_t i = cursor.record; i < opened->records.size(); ++i) {
      auto& record = opened->records[i];
      bool isThere = isDisplacement(record);
      if (isThere && !filling.add(opened->files, record, *name, std::exchange(cursor.items, 0))) {
        page.items = std::move(filling.items);
        page.cursor = Cursor{*name, i, filling.position}.toText();
        return page;
      }
    }
    cursor.record = 0;
  }
  page.items = std::move(filling.items);
  page.atEnd = true;
  return page;
}

}  // namespace capstan::storage
