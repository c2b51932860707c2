#include <capstan/rpc/address.h>

#include <gtest/gtest.h>

namespace capstan::rpc {
namespace {

struct Good {
  const char* text;
  const char* host;  // or the path
  unsigned port;
  bool loopback;
  const char* canonical;
};

TEST(Address, ReadsWhatPeopleWrite) {
  const Good table[] = {
      {"127.0.0.1:4457", "127.0.0.1", 4457, true, "127.0.0.1:4457"},
      {"127.0.0.1", "127.0.0.1", 4457, true, "127.0.0.1:4457"},
      {"127.8.9.1:1", "127.8.9.1", 1, true, "127.8.9.1:1"},
      {"localhost:0", "localhost", 0, true, "localhost:0"},
      {"LOCALHOST", "LOCALHOST", 4457, true, "LOCALHOST:4457"},
      {"[::1]:22", "::1", 22, true, "[::1]:22"},
      {"[::1]", "::1", 4457, true, "[::1]:4457"},
      {"[::]:65535", "::", 65535, false, "[::]:65535"},
      {"[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", 1, true, "[::ffff:127.0.0.1]:1"},
      {"[::ffff:7fff:ffff]:1", "::ffff:7fff:ffff", 1, true, "[::ffff:7fff:ffff]:1"},
      {"[::ffff:128.0.0.1]:1", "::ffff:128.0.0.1", 1, false, "[::ffff:128.0.0.1]:1"},
      {"[::ffff:10.0.0.127]:1", "::ffff:10.0.0.127", 1, false, "[::ffff:10.0.0.127]:1"},
      {"[::127.0.0.1]:1", "::127.0.0.1", 1, false, "[::127.0.0.1]:1"},
      {"[64:ff9b::127.0.0.1]:1", "64:ff9b::127.0.0.1", 1, false, "[64:ff9b::127.0.0.1]:1"},
      {"[::fffe:127.0.0.1]:1", "::fffe:127.0.0.1", 1, false, "[::fffe:127.0.0.1]:1"},
      {"[fe80::1%eth0]:5", "fe80::1%eth0", 5, false, "[fe80::1%eth0]:5"},
      {"0.0.0.0:80", "0.0.0.0", 80, false, "0.0.0.0:80"},
      {"files.example.org", "files.example.org", 4457, false, "files.example.org:4457"},
      {"my-host_1:99", "my-host_1", 99, false, "my-host_1:99"},
      {"127.example.org:1", "127.example.org", 1, false, "127.example.org:1"},
  };
  for (auto& row : table) {
    auto address = parseAddress(row.text);
    ASSERT_TRUE(address.ok()) << row.text << ": " << address.error().message;
    EXPECT_EQ(address->kind, Address::Kind::TCP) << row.text;
    EXPECT_EQ(address->host, row.host) << row.text;
    EXPECT_EQ(address->port, row.port) << row.text;
    EXPECT_EQ(address->isLoopback(), row.loopback) << row.text;
    EXPECT_EQ(address->toString(), row.canonical) << row.text;
    EXPECT_EQ(*parseAddress(address->toString()), *address) << row.text;
  }
}

TEST(Address, ReadsUnixSockets) {
  for (const char* path : {"/run/user/1000/capstan.sock", "here.sock", "a:b [c]"}) {
    auto address = parseAddress(std::string("unix:") + path);
    ASSERT_TRUE(address.ok()) << path;
    EXPECT_EQ(address->kind, Address::Kind::UNIX);
    EXPECT_EQ(address->path, path);
    EXPECT_TRUE(address->isLoopback());
    EXPECT_EQ(address->toString(), std::string("unix:") + path);
  }
  EXPECT_TRUE(parseAddress("unix:" + std::string(107, 'x')).ok());
}

TEST(Address, RefusesTheRestAndNamesIt) {
  const std::string table[] = {
      "",
      ":4457",
      "host:",
      "host:http",
      "host:65536",
      "host:-1",
      "host: 1",
      "host:1 ",
      "host:1:2",
      "::1",
      "::1:4457",
      "[::1",
      "[::1]4457",
      "[::1]:",
      "[host]:1",
      "[]:1",
      "[127.0.0.1]",
      "4457",
      "a b:1",
      "a/b",
      "@file",
      "host:+1",
      "host:0x10",
      "unix:",
      "unix",
      "tcp://host:1",
      "[fe80::1%e th]:1",
      "h\x1b[2J:1",
      "\xc3\xa4:1",
      "host:99999999999999999999",
      "unix:" + std::string(108, 'x'),
      std::string("unix:a\0b", 8),
      std::string(254, 'h'),
  };
  for (auto& text : table) {
    auto address = parseAddress(text);
    ASSERT_FALSE(address.ok()) << text;
    EXPECT_EQ(address.error().code, ErrorCode::INVALID_ARGUMENT) << text;
    EXPECT_NE(address.error().message.find("is not an address"), std::string::npos) << text;
    EXPECT_EQ(address.error().message.find('\x1b'), std::string::npos) << text;
  }
  EXPECT_NE(parseAddress("::1:4457").error().message.find("brackets"), std::string::npos);
}

}  // namespace
}  // namespace capstan::rpc
