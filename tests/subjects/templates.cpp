// A load for the compiler: much of the standard library's templates in few lines.
#include <regex>
#include <map>
#include <string>
#include <iostream>
#include <algorithm>
#include <vector>
#include <functional>
int main(int argc, char **argv) {
    std::map<std::string, std::vector<int>> words;
    std::regex word("(\\w+)-(\\d+)");
    for (int i = 1; i < argc; i++) { std::smatch m; std::string s(argv[i]); if (std::regex_match(s, m, word)) words[m[1]].push_back(std::stoi(m[2])); }
    for (auto &[name, values] : words) { std::sort(values.begin(), values.end(), std::greater<>()); std::cout << name << values.size() << "\n"; }
}
