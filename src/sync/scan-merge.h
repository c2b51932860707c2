// Puts what a walk comes upon beside what was agreed, both in tree order, and keeps what differs.
#pragma once

#include <memory>
#include <string>

#include <capstan/sync/scan.h>

namespace capstan::sync {

class Merge {
 public:
  // `reader`: what was agreed about the stretch of the tree that will be told; null: nothing was.
  Merge(const ScanOptions& options, Scanned& result, std::unique_ptr<AgreedReader> reader);

  void seen(std::string_view path, const Seen& seen);
  // What was agreed and has not been seen up to now is gone. The first error of the reader, else ok.
  Status finish();

  // One path by itself.
  void compare(std::string_view path, const Seen& seen, const Agreed* agreed);
  void gone(const std::string& path, const Agreed& agreed);

 private:
  void advance();
  void skipBelow(std::string_view folder);
  void leaveUnknown(std::string_view path, const Seen& seen);
  bool isContentAsAgreed(std::string_view path, const Seen& seen, const Agreed& agreed, std::string& digest);

  const ScanOptions& options;
  Scanned& result;
  std::unique_ptr<AgreedReader> reader;
  bool hasAgreed = false;
  std::optional<Error> failure;
};

}  // namespace capstan::sync
