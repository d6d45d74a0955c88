package tables

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

const target = "DynamoDB_20120810."

var operations = map[string]func(*Store, call.Request, *call.Call) *call.Failure{
	"GetItem":                             (*Store).getItem,
	"PutItem":                             (*Store).putItem,
	"Query":                               (*Store).query,
	"Scan":                                (*Store).scan,
	"DescribeTable":                       (*Store).describeTable,
	"DescribeContinuousBackups":           (*Store).describeBackups,
	"DescribeTimeToLive":                  (*Store).describeTTL,
	"DescribeKinesisStreamingDestination": (*Store).describeKinesis,
	"GetResourcePolicy":                   (*Store).getPolicy,
}

// Understand reads a call of DynamoDB.
func (s *Store) Understand(r call.Request) (*call.Call, *call.Failure) {
	name, ours := strings.CutPrefix(r.HTTP.Header.Get("X-Amz-Target"), target)
	read, known := operations[name]
	if r.HTTP.Method != http.MethodPost || r.HTTP.URL.Path != "/" || !ours || !known {
		return nil, call.Refuse("UnknownOperationException", "this fake does not know %s %s, target %q", r.HTTP.Method, r.HTTP.URL.Path, r.HTTP.Header.Get("X-Amz-Target"))
	}
	if got := r.HTTP.Header.Get("Content-Type"); got != call.JSON10.ContentType() {
		return nil, call.Refuse("SerializationException", "content type %q", got)
	}
	c := &call.Call{Operation: name, ReadOnly: name != "PutItem"}
	if failure := read(s, r, c); failure != nil {
		return nil, failure
	}
	return c, nil
}

// table finds a table by name or ARN. Its right is asked for even where there
// is none, so that names cannot be tried out.
func (s *Store) table(r call.Request, c *call.Call, name string, conditions map[string][]string) (*table, *call.Failure) {
	arn := name
	if !strings.HasPrefix(name, "arn:") {
		arn = "arn:aws:dynamodb:" + r.Region + ":" + r.Caller.Account + ":table/" + name
	}
	c.Needs = []call.Need{{Action: "dynamodb:" + c.Operation, Resource: arn, Context: conditions}}
	c.Params = map[string]any{"tableName": name}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[arn]
	if t == nil || !strings.HasPrefix(arn, "arn:aws:dynamodb:"+r.Region+":") {
		c.Do = func(context.Context) (*call.Answer, *call.Failure) {
			return nil, call.Refuse("ResourceNotFoundException", "Requested resource not found: Table: %s not found", name)
		}
		return nil, nil
	}
	return t, nil
}

// do runs f under the lock: a condition and the write that it is for are one.
func (s *Store) do(c *call.Call, f func() (out any, size int, failure *call.Failure)) {
	c.Do = func(context.Context) (*call.Answer, *call.Failure) {
		s.mu.Lock()
		out, size, failure := f()
		s.mu.Unlock()
		if failure != nil {
			return nil, failure
		}
		answer, failure := call.JSON(out)
		if failure == nil {
			answer.Bytes = size
		}
		return answer, failure
	}
}

func (s *Store) getItem(r call.Request, c *call.Call) *call.Failure {
	var in struct {
		TableName                string
		Key                      item
		ConsistentRead           bool
		ProjectionExpression     string
		ExpressionAttributeNames map[string]string
	}
	if err := call.Strict(r.Body, &in); err != nil {
		return call.Refuse("SerializationException", "%v", err)
	}
	conditions := map[string][]string{}
	t, failure := s.table(r, c, in.TableName, conditions)
	c.Data = true
	if t == nil || failure != nil {
		return failure
	}
	hash, sort, failure := t.key(in.Key)
	if failure == nil && len(in.Key) != t.keys() {
		failure = invalid("The provided key element does not match the schema")
	}
	if failure != nil {
		return failure
	}
	e := expressionsOf(in.ExpressionAttributeNames, nil)
	attributes, failure := e.projection(in.ProjectionExpression)
	if failure == nil {
		failure = e.done()
	}
	if failure != nil {
		return failure
	}
	conditions["dynamodb:LeadingKeys"] = []string{hash}
	conditions["dynamodb:Attributes"] = union(slices.Sorted(maps.Keys(in.Key)), attributes)
	conditions["dynamodb:Select"] = selected(attributes)
	c.Params["key"] = in.Key
	s.do(c, func() (any, int, *call.Failure) {
		it := t.get(hash, sort)
		if it == nil {
			return map[string]any{}, 0, nil
		}
		return map[string]any{"Item": project(it, attributes)}, it.size(), nil
	})
	return nil
}

func (s *Store) putItem(r call.Request, c *call.Call) *call.Failure {
	var in struct {
		TableName                           string
		Item                                item
		ConditionExpression                 string
		ReturnValuesOnConditionCheckFailure string
		ExpressionAttributeNames            map[string]string
		ExpressionAttributeValues           map[string]value
	}
	if err := call.Strict(r.Body, &in); err != nil {
		return call.Refuse("SerializationException", "%v", err)
	}
	conditions := map[string][]string{}
	t, failure := s.table(r, c, in.TableName, conditions)
	c.Data = true
	if t == nil || failure != nil {
		return failure
	}
	for name, v := range in.Item {
		if err := v.check(); err != nil || name == "" {
			return invalid("attribute %q: %v", name, err)
		}
	}
	hash, sort, failure := t.key(in.Item)
	if failure != nil {
		return failure
	}
	for index, sortName := range t.Indexes {
		if v, there := in.Item[sortName]; there {
			if s, ok := v.text(); !ok || s == "" {
				return invalid("One or more parameter values were invalid: Type mismatch for Index Key %s of index %s", sortName, index)
			}
		}
	}
	if in.Item.size() > maxItem {
		return invalid("Item size has exceeded the maximum allowed size")
	}
	if given := in.ReturnValuesOnConditionCheckFailure; given != "" && given != "NONE" && given != "ALL_OLD" {
		return invalid("returnValuesOnConditionCheckFailure %q", given)
	}
	e := expressionsOf(in.ExpressionAttributeNames, in.ExpressionAttributeValues)
	when, failure := e.condition(in.ConditionExpression)
	if failure == nil {
		failure = e.done()
	}
	if failure != nil {
		return failure
	}
	conditions["dynamodb:LeadingKeys"] = []string{hash}
	conditions["dynamodb:Attributes"] = union(slices.Sorted(maps.Keys(in.Item)), when.names)
	c.Params["key"] = project(in.Item, t.keyNames())
	if in.ConditionExpression != "" {
		c.Params["conditionExpression"] = in.ConditionExpression
	}
	s.do(c, func() (any, int, *call.Failure) {
		if old := t.get(hash, sort); !when.holds(old) {
			failure := call.Refuse("ConditionalCheckFailedException", "The conditional request failed")
			if in.ReturnValuesOnConditionCheckFailure == "ALL_OLD" && old != nil {
				failure.Fields = map[string]any{"Item": old}
			}
			return nil, 0, failure
		}
		t.put(hash, sort, in.Item)
		return map[string]any{}, in.Item.size(), nil
	})
	return nil
}

// listing is what Query and Scan take alike.
type listing struct {
	TableName                 string
	IndexName                 string
	KeyConditionExpression    string
	ProjectionExpression      string
	ConsistentRead            bool
	ScanIndexForward          *bool
	Limit                     *int
	ExclusiveStartKey         item
	ExpressionAttributeNames  map[string]string
	ExpressionAttributeValues map[string]value
}

func (s *Store) query(r call.Request, c *call.Call) *call.Failure {
	var in listing
	if err := call.Strict(r.Body, &in); err != nil {
		return call.Refuse("SerializationException", "%v", err)
	}
	conditions := map[string][]string{}
	t, failure := s.table(r, c, in.TableName, conditions)
	c.Data = true
	if in.IndexName != "" {
		c.Needs[0].Resource += "/index/" + in.IndexName
	}
	if t == nil || failure != nil {
		return failure
	}
	sortName := t.Range
	if in.IndexName != "" {
		if sortName = t.Indexes[in.IndexName]; sortName == "" {
			return invalid("The table does not have the specified index: %s", in.IndexName)
		}
	}
	e := expressionsOf(in.ExpressionAttributeNames, in.ExpressionAttributeValues)
	where, failure := e.within(in.KeyConditionExpression, t.Hash, sortName)
	if failure != nil {
		return failure
	}
	attributes, failure := in.rest(t, e)
	if failure != nil {
		return failure
	}
	if in.ExclusiveStartKey != nil {
		if hash, ok := in.ExclusiveStartKey[t.Hash].text(); !ok || hash != where.hash {
			return invalid("The provided starting key is outside query boundaries based on provided conditions")
		}
	}
	conditions["dynamodb:LeadingKeys"] = []string{where.hash}
	conditions["dynamodb:Attributes"] = union(t.keyNames(), attributes)
	conditions["dynamodb:Select"] = selected(attributes)
	c.Params["keyConditionExpression"] = in.KeyConditionExpression
	s.do(c, func() (any, int, *call.Failure) {
		rows := t.rows(where.hash, in.IndexName, where.prefix)
		out, size := s.answer(t, in, attributes, rows)
		return out, size, nil
	})
	return nil
}

func (s *Store) scan(r call.Request, c *call.Call) *call.Failure {
	var in listing
	if err := call.Strict(r.Body, &in); err != nil {
		return call.Refuse("SerializationException", "%v", err)
	}
	if in.KeyConditionExpression != "" || in.ScanIndexForward != nil || in.IndexName != "" {
		return invalid("Scan takes no key condition, order or index here")
	}
	conditions := map[string][]string{}
	t, failure := s.table(r, c, in.TableName, conditions)
	c.Data = true
	if t == nil || failure != nil {
		return failure
	}
	attributes, failure := in.rest(t, expressionsOf(in.ExpressionAttributeNames, in.ExpressionAttributeValues))
	if failure != nil {
		return failure
	}
	conditions["dynamodb:Attributes"] = union(t.keyNames(), attributes)
	conditions["dynamodb:Select"] = selected(attributes)
	s.do(c, func() (any, int, *call.Failure) {
		var rows []row
		for _, hash := range slices.Sorted(maps.Keys(t.parts)) {
			rows = append(rows, t.rows(hash, "", "")...)
		}
		out, size := s.answer(t, in, attributes, rows)
		return out, size, nil
	})
	return nil
}

// rest checks the parameters that are left when the key condition is read.
func (in *listing) rest(t *table, e *expressions) ([]string, *call.Failure) {
	attributes, failure := e.projection(in.ProjectionExpression)
	if failure == nil {
		failure = e.done()
	}
	if failure == nil && in.Limit != nil && *in.Limit < 1 {
		failure = invalid("Limit must be greater than or equal to 1")
	}
	if failure == nil && in.ExclusiveStartKey != nil {
		_, _, failure = t.key(in.ExclusiveStartKey)
	}
	return attributes, failure
}

// row is an item in a list, and what it is sorted by: the sort key, or an
// index's and then the sort key; behind the partition in a Scan.
type row struct {
	hash string
	by   [2]string
	item item
}

func (a row) compare(b row) int {
	if c := strings.Compare(a.hash, b.hash); c != 0 {
		return c
	}
	return slices.Compare(a.by[:], b.by[:])
}

// rows returns those of a partition that begin with a prefix, in order. An index
// has the items that have its key.
func (t *table) rows(hash, index, prefix string) []row {
	p := t.parts[hash]
	if p == nil {
		return nil
	}
	if index == "" { // as it lies there: long lists are read page by page, each from here
		from, _ := slices.BinarySearch(p.order, prefix)
		out := make([]row, 0, len(p.order)-from)
		for _, sort := range p.order[from:] {
			if !strings.HasPrefix(sort, prefix) {
				break
			}
			out = append(out, row{hash, [2]string{sort, ""}, p.items[sort]})
		}
		return out
	}
	out := make([]row, 0, len(p.order))
	for _, sort := range p.order {
		if r, ok := t.row(hash, index, p.items[sort]); ok && strings.HasPrefix(r.by[0], prefix) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, row.compare)
	return out
}

func (t *table) row(hash, index string, it item) (row, bool) {
	sort, _ := it[t.Range].text()
	if index == "" {
		return row{hash, [2]string{sort, ""}, it}, true
	}
	first, there := it[t.Indexes[index]].text()
	return row{hash, [2]string{first, sort}, it}, there
}

// answer makes one page. As DynamoDB does, a page that is full names its last
// key even if nothing follows.
func (s *Store) answer(t *table, in listing, attributes []string, rows []row) (out map[string]any, size int) {
	if in.ScanIndexForward != nil && !*in.ScanIndexForward {
		slices.Reverse(rows)
	}
	if in.ExclusiveStartKey != nil {
		hash, _, _ := t.key(in.ExclusiveStartKey)
		start, _ := t.row(hash, in.IndexName, in.ExclusiveStartKey)
		rows = slices.DeleteFunc(rows, func(r row) bool {
			c := r.compare(start)
			if in.ScanIndexForward != nil && !*in.ScanIndexForward {
				c = -c
			}
			return c <= 0
		})
	}
	most := len(rows) + 1
	if s.page > 0 {
		most = s.page
	}
	if in.Limit != nil {
		most = min(most, *in.Limit)
	}
	items := []item{}
	out = map[string]any{}
	for _, r := range rows {
		items = append(items, project(r.item, attributes))
		if size += r.item.size(); len(items) == most || size >= maxPage {
			last := t.keyNames()
			if in.IndexName != "" {
				last = append(last, t.Indexes[in.IndexName])
			}
			out["LastEvaluatedKey"] = project(r.item, last)
			break
		}
	}
	out["Items"], out["Count"], out["ScannedCount"] = items, len(items), len(items)
	return out, size
}

func (t *table) keyNames() []string {
	if t.Range == "" {
		return []string{t.Hash}
	}
	return []string{t.Hash, t.Range}
}

func (t *table) keys() int { return len(t.keyNames()) }

func selected(attributes []string) []string {
	if attributes == nil {
		return []string{"ALL_ATTRIBUTES"}
	}
	return []string{"SPECIFIC_ATTRIBUTES"}
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}
