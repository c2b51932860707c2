// JSON, entries and errors as scripts read them.
#include <capstan/client/cli/json.h>

#include <cmath>

#include <capstan/client/cli/entry-format.h>
#include <capstan/client/cli/output.h>
#include <capstan/client/cli/transfers.h>
#include <gtest/gtest.h>

namespace capstan::cli {
namespace {

TEST(JsonWriter, PutsCommasBetweenAndNowhereElse) {
  JsonWriter json;
  json.beginObject()
      .field("a", 1u)
      .key("b")
      .beginArray()
      .value(true)
      .value("x")
      .null()
      .beginObject()
      .endObject()
      .endArray();
  json.field("c", -5).field("d", 0.5).endObject();
  EXPECT_EQ(json.text(), R"({"a":1,"b":[true,"x",null,{}],"c":-5,"d":0.5})");
}

TEST(JsonWriter, WritesBytesThatAreNotUtf8AsLoneSurrogates) {
  JsonWriter json;
  json.value(std::string_view("a\xff\"\n\xc3\xbc"));
  EXPECT_EQ(json.text(), "\"a\\udcff\\\"\\n\xc3\xbc\"");
}

TEST(JsonWriter, WritesNullForWhatIsNoNumber) {
  JsonWriter json;
  json.beginArray().value(std::nan("")).value(INFINITY).value(1e300).endArray();
  EXPECT_EQ(json.text(), "[null,null,1e+300]");
}

TEST(JsonWriter, KeepsAll64Bits) {
  JsonWriter json;
  json.beginArray().value(UINT64_MAX).value(INT64_MIN).endArray();
  EXPECT_EQ(json.text(), "[18446744073709551615,-9223372036854775808]");
}

Entry someFile() {
  Entry entry;
  entry.path = "d/f\xfe";
  entry.type = EntryType::FILE;
  entry.size = 5;
  entry.mtime = 1700000000123456789;
  entry.mode = 0640;
  entry.version = "\x01\xab";
  entry.cached = true;
  return entry;
}

TEST(EntryAsJson, HasTheContractsKeysInOrder) {
  EXPECT_EQ(entryAsJson(someFile()),
            R"({"path":"d/f\udcfe","type":"file","size":5,"mtime":"2023-11-14T22:13:20.123456789Z","mode":"0640",)"
            R"("version":"01ab","cached":true,"target":null})");
}

TEST(EntryAsJson, TellsWhereASymlinkPoints) {
  Entry link;
  link.path = "l";
  link.type = EntryType::SYMLINK;
  link.mode = 0777;
  link.target = "../x";
  EXPECT_NE(entryAsJson(link).find(R"("type":"symlink")"), std::string::npos);
  EXPECT_NE(entryAsJson(link).find(R"("target":"../x")"), std::string::npos);
}

TEST(LongColumns, LooksLikeLs) {
  Entry entry = someFile();
  EXPECT_EQ(modeString(entry), "-rw-r-----");
  entry.mode = 04755;
  EXPECT_EQ(modeString(entry), "-rwsr-xr-x");
  entry.type = EntryType::DIRECTORY;
  entry.mode = 01776;
  EXPECT_EQ(modeString(entry), "drwxrwxrwT");
  EXPECT_NE(longColumns(someFile()).find("  *  "), std::string::npos);
  entry.cached = false;
  EXPECT_EQ(longColumns(entry).find('*'), std::string::npos);
}

TEST(ErrorAsJson, HasCodeMessageAndPath) {
  EXPECT_EQ(errorAsJson("not-found", "no such file x", "x\xff"),
            R"({"error":{"code":"not-found","message":"no such file x","path":"x\udcff"}})");
  EXPECT_EQ(errorAsJson("usage", "m", ""), R"({"error":{"code":"usage","message":"m","path":null}})");
}

TEST(SummaryAsJson, NamesWhatFailed) {
  client::TransferSummary summary;
  summary.files = 2;
  summary.bytes = 10;
  summary.failures.push_back({"a", {ErrorCode::DENIED, "cannot read a", "a"}});
  EXPECT_EQ(
      summaryAsJson(summary),
      R"({"files":2,"folders":0,"symlinks":0,"bytes":10,"bytesMoved":0,"failures":[{"path":"a","code":"denied","message":"cannot read a"}]})");
}

}  // namespace
}  // namespace capstan::cli
