// Program bootstrap is a function for the tests of the world: it does what its
// event says.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
)

type event struct {
	Do    string
	Text  string
	Table string
	Size  int
}

var runs int

func main() {
	api := &runtimeapi.Client{HTTP: http.DefaultClient, Base: "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API")}
	if os.Getenv("FAIL_INIT") != "" {
		_ = api.FailInit(context.Background(), &runtimeapi.Failure{Class: "init", Message: "asked to"})
		os.Exit(1)
	}
	fmt.Println("up")
	err := api.Serve(context.Background(), func(ctx context.Context, inv runtimeapi.Invocation) ([]byte, error) {
		runs++
		var e event
		if err := json.Unmarshal(inv.Event, &e); err != nil {
			return nil, err
		}
		switch e.Do {
		case "echo":
			return json.Marshal(map[string]any{"text": e.Text, "runs": runs, "id": inv.ID, "arn": inv.Function, "left": time.Until(inv.Deadline) > 0, "pid": os.Getpid()})
		case "environment":
			env := os.Environ()
			slices.Sort(env)
			return json.Marshal(env)
		case "files":
			_, machine := os.Stat("/usr")
			exe, err := os.Executable()
			return json.Marshal(map[string]any{"exe": exe, "machine": machine == nil, "err": err})
		case "fail":
			return nil, &runtimeapi.Failure{Class: "refused", Message: e.Text}
		case "exit":
			os.Exit(3)
		case "wait":
			<-ctx.Done()
			time.Sleep(time.Hour)
		case "large":
			return []byte(`"` + strings.Repeat("x", e.Size) + `"`), nil
		case "hog":
			b := make([]byte, e.Size)
			for i := range b {
				b[i] = 1
			}
			return json.Marshal(len(b))
		case "put":
			return nil, put(ctx, e)
		case "signal":
			return nil, syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil, errors.New("unknown event")
	})
	fmt.Println("ends:", err)
	os.Exit(1)
}

// put writes a row with the function's own credentials.
func put(ctx context.Context, e event) error {
	provider, err := session.EnvironmentCredentials(os.Environ())
	if err != nil {
		return err
	}
	client := dynamodb.NewFromConfig(session.New(os.Getenv("AWS_REGION"), provider, session.Options{}))
	_, err = client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &e.Table, Item: map[string]types.AttributeValue{
		"pk": &types.AttributeValueMemberS{Value: "order/" + e.Text}, "sk": &types.AttributeValueMemberS{Value: "x"},
	}, ConditionExpression: aws.String("attribute_not_exists(#pk)"), ExpressionAttributeNames: map[string]string{"#pk": "pk"}})
	var exists *types.ConditionalCheckFailedException
	if errors.As(err, &exists) {
		return nil // a former run, whose answer was lost
	}
	return err
}
